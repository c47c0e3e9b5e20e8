"""`runtime replay`: compute a reply once more, and compare it with its receipt."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import httpx

from runtime.cli.ask import TIMEOUT
from runtime.errors import InvalidRequest

if TYPE_CHECKING:
    from runtime.receipt import Receipt
    from runtime.replay.comparison import Comparison, TokenDifference

FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)


class _WrongInput(click.ClickException):
    """Nothing could be compared."""

    exit_code = 2


@click.command("replay")
@click.argument("receipt", type=FILE)
@click.option("--request", required=True, type=FILE, help="The body of the request, as it was posted.")
@click.option("--url", default="http://127.0.0.1:3000", show_default=True, help="Address of a running server.")
@click.option("--api-key", envvar="API_KEY", show_envvar=True, help="Key of the server.")
def replay(receipt: Path, request: Path, url: str, api_key: str | None) -> None:
    """Have a running server compute the reply of a RECEIPT once more, and compare.

    RECEIPT is a file with the receipt, or with the whole reply that holds it. It holds neither the prompt nor its
    pictures, so the request is needed too; that of another prompt is noticed. Exit status 0: the tokens are the same;
    1: they are not, or the prompt is another; 2: nothing could be compared.
    """
    try:
        comparison = _compared(_text(receipt), _text(request), _Server(url, api_key))
    except InvalidRequest as error:
        raise _WrongInput(error.message) from None
    raise SystemExit(0 if comparison.is_reproduced else 1)


class _Server:
    """A running server."""

    def __init__(self, url: str, api_key: str | None) -> None:
        self._url = url
        self._headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}

    def post(self, route: str, body: Mapping[str, Any]) -> str:
        """Return the answer; raises InvalidRequest for none, and for a refusal, whose words it tells."""
        try:
            with httpx.Client(timeout=TIMEOUT, headers=self._headers) as client:
                answer = client.post(self._url.rstrip("/") + route, json=body)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            kind = type(error).__name__
            raise InvalidRequest(f"no answer from {self._url} ({kind}); is the server running?") from error
        if answer.is_error:
            raise InvalidRequest(f"the server answered {answer.status_code}: {_refusal(answer.text)}")
        return answer.text


def _compared(receipt_text: str, request_text: str, server: _Server) -> Comparison:
    """Replay, print and return what came of it."""
    from runtime.console import report_console
    from runtime.replay.comparison import Comparison
    from runtime.replay.documents import parsed, receipt_in
    from runtime.replay.request import replay_request
    from runtime.replay.table import print_comparison

    before = receipt_in(receipt_text)
    wanted = replay_request(parsed(request_text, "the request"), before)
    comparison = Comparison(before, _replayed(server.post(wanted.route, wanted.body)))
    found = comparison.first_difference if comparison.same_prompt else None
    texts = {} if found is None else _texts(server, before, found)
    print_comparison(comparison, texts, report_console())
    return comparison


def _replayed(answer: str) -> Receipt:
    from runtime.replay.documents import receipt_in

    try:
        return receipt_in(answer)
    except InvalidRequest as error:
        raise InvalidRequest(f"the server answered without a receipt that can be read: {error.message}") from None


def _texts(server: _Server, before: Receipt, found: TokenDifference) -> dict[int, str]:
    """Ask the server for the texts of two tokens: the prompt of a completion is told with the text of each."""
    from runtime.replay.documents import parsed

    told: dict[int, str] = {}
    ahead = before.tokens[max(0, found.position - 1) : found.position]  # for the space between words
    for id in (found.before, found.now):
        if id is None:
            continue
        body = {"prompt": [*ahead, id], "max_tokens": 1, "temperature": 0, "echo": True, "logprobs": 0}
        try:
            answer = parsed(server.post("/v1/completions", body), "the answer")
            told[id] = str(answer["choices"][0]["logprobs"]["tokens"][len(ahead)])
        except (InvalidRequest, LookupError, TypeError):  # a backend that cannot tell them; the ids will do
            continue
    return told


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"{path} cannot be read as text ({type(error).__name__})") from error


def _refusal(body: str) -> str:
    """Return the words of a refusal in TGI's or OpenAI's form."""
    from runtime.replay.documents import parsed

    try:
        told = parsed(body, "the answer")["error"]
        return str(told["message"] if isinstance(told, dict) else told)
    except (InvalidRequest, LookupError, TypeError):
        return "without a reason"
