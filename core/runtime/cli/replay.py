"""`runtime replay`: compute a reply once more, and compare it with its receipt."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import httpx

from runtime.cli.asking import RunningServer, server_options, words_of
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
@server_options
def replay(receipt: Path, request: Path, url: str, api_key: str | None, cacert: Path | None) -> None:
    """Have a running server compute the reply of a RECEIPT once more, and compare.

    RECEIPT is a file with the receipt, or with the whole reply that holds it. It holds neither the prompt nor its
    pictures, so the request is needed too; that of another prompt is noticed. Exit status 0: the tokens are the same;
    1: they are not, or the prompt is another; 2: nothing could be compared.
    """
    try:
        comparison = _compared(_text(receipt), _text(request), RunningServer(url, api_key, cacert))
    except InvalidRequest as error:
        raise _WrongInput(error.message) from None
    raise SystemExit(0 if comparison.is_reproduced else 1)


def _posted(server: RunningServer, route: str, body: Mapping[str, Any]) -> str:
    """Return the answer; raises InvalidRequest for none, and for a refusal, whose words it tells."""
    try:
        with server.client() as client:
            answer = client.post(server.address(route), json=body)
    except (httpx.TransportError, httpx.InvalidURL) as error:
        raise InvalidRequest(server.silence(error)) from error
    if answer.is_error:
        words = words_of(answer.content) or "without a reason"
        raise InvalidRequest(f"the server answered {answer.status_code}: {words}")
    return answer.text


def _compared(receipt_text: str, request_text: str, server: RunningServer) -> Comparison:
    """Replay, print and return what came of it."""
    from runtime.console import report_console
    from runtime.replay.comparison import Comparison
    from runtime.replay.documents import parsed, receipt_in
    from runtime.replay.request import replay_request
    from runtime.replay.table import print_comparison

    before = receipt_in(receipt_text)
    wanted = replay_request(parsed(request_text, "the request"), before)
    comparison = Comparison(before, _replayed(_posted(server, wanted.route, wanted.body)))
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


def _texts(server: RunningServer, before: Receipt, found: TokenDifference) -> dict[int, str]:
    """Ask the server for the texts of two tokens: the prompt of a completion is told with the text of each."""
    from runtime.replay.documents import parsed

    told: dict[int, str] = {}
    ahead = before.tokens[max(0, found.position - 1) : found.position]  # for the space between words
    for id in (found.before, found.now):
        if id is None:
            continue
        body = {"prompt": [*ahead, id], "max_tokens": 1, "temperature": 0, "echo": True, "logprobs": 0}
        try:
            answer = parsed(_posted(server, "/v1/completions", body), "the answer")
            told[id] = str(answer["choices"][0]["logprobs"]["tokens"][len(ahead)])
        except (InvalidRequest, LookupError, TypeError):  # a backend that cannot tell them; the ids will do
            continue
    return told


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"{path} cannot be read as text ({type(error).__name__})") from error
