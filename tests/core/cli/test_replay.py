"""`runtime replay` against a server that answers what the test wants."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme
from click.testing import CliRunner, Result
from runtime.cli import main
from runtime.receipt import Receipt
from support.receipts import RECEIPT

SAMPLED = {"do_sample": True, "temperature": 0.5, "max_new_tokens": 4, "stop": ["."]}
TGI = {"inputs": "a", "parameters": {**SAMPLED, "best_of": 3}, "stream": True}
CHAT = {"messages": [{"role": "user", "content": "a"}], "stream": True, "stream_options": {"include_usage": True}}


class ReplayServer(HTTPServer):
    """Answers each route with what it holds for it, and remembers what came."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.answers: dict[str, Any] = {}
        self.status = 200
        self.posted: list[tuple[str, dict[str, Any]]] = []
        self.authorization: str | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    """One request."""

    server: ReplayServer

    def do_POST(self) -> None:
        self.server.posted.append((self.path, json.loads(self.rfile.read(int(self.headers["content-length"])))))
        self.server.authorization = self.headers["authorization"]
        answer = json.dumps(self.server.answers.get(self.path, {})).encode()
        self.send_response(self.server.status)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_arguments: Any) -> None:
        """Be quiet."""


@pytest.fixture
def server() -> Iterator[ReplayServer]:
    """A server on a free port of loopback that reproduces `RECEIPT`."""
    with ReplayServer() as server:
        server.answers = {
            "/generate": {"generated_text": "", "details": {"receipt": RECEIPT.facts()}},
            "/v1/chat/completions": {"choices": [], "receipt": RECEIPT.facts()},
            "/v1/completions": {"choices": [], "receipt": RECEIPT.facts()},
        }
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def replay(server: ReplayServer, tmp_path: Path) -> Callable[..., Result]:
    """Run the command on files with these texts."""

    def run(receipt: object, request: object = TGI, *options: str, **environment: str) -> Result:
        files = []
        for name, content in (("receipt.json", receipt), ("request.json", request)):
            (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
            files.append(str(tmp_path / name))
        arguments = ["replay", files[0], "--request", files[1], "--url", server.url, *options]
        return CliRunner(env={"NO_PROXY": "*", **environment}).invoke(main, arguments)

    return run


def answers(server: ReplayServer, receipt: Receipt) -> None:
    """Have the server compute this."""
    server.answers["/generate"] = {"details": {"receipt": receipt.facts()}}


def told(result: Result) -> str:
    """The last line."""
    return result.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("request_body", "route", "body"),
    [
        (TGI, "/generate", {"inputs": "a", "parameters": {**SAMPLED, "receipt": True, "seed": 2**64 - 1}}),
        # What TGI makes of a request without parameters.
        (
            {"inputs": "a"},
            "/generate",
            {"inputs": "a", "parameters": {"do_sample": True, "receipt": True, "seed": 2**64 - 1}},
        ),
        (CHAT, "/v1/chat/completions", {"messages": CHAT["messages"], "receipt": True, "seed": 2**64 - 1}),
        ({"prompt": "a", "seed": 3}, "/v1/completions", {"prompt": "a", "receipt": True, "seed": 2**64 - 1}),
    ],
)
def test_what_is_asked(
    replay: Callable[..., Result],
    server: ReplayServer,
    request_body: Mapping[str, Any],
    route: str,
    body: Mapping[str, Any],
) -> None:
    """The same once more: with the seed of the receipt, one reply, and not as a stream."""
    result = replay(RECEIPT.facts(), request_body)
    assert (result.exit_code, told(result)) == (0, "reproduced: the same 4 tokens")
    assert server.posted == [(route, body)]


def test_greedy_reply_needs_no_seed(replay: Callable[..., Result], server: ReplayServer) -> None:
    """None is sent."""
    greedy = replace(RECEIPT, seed=None)
    answers(server, greedy)
    assert replay(greedy.facts(), {"inputs": "a", "parameters": {}}).exit_code == 0
    assert server.posted == [("/generate", {"inputs": "a", "parameters": {"receipt": True}})]


@pytest.mark.parametrize(
    "document",
    [
        {"details": {"receipt": RECEIPT.facts()}},
        [{"generated_text": "", "details": {"receipt": RECEIPT.facts()}}],
        {"choices": [], "receipt": RECEIPT.facts()},
        f'data:{{"details": null}}\n\ndata:{json.dumps({"details": {"receipt": RECEIPT.facts()}})}\n\n',
        f'data: {json.dumps({"receipt": RECEIPT.facts()})}\n\ndata: {{"usage": {{}}}}\n\ndata: [DONE]\n\n',
    ],
    ids=["tgi", "list", "openai", "tgi-stream", "openai-stream"],
)
def test_whole_replies(replay: Callable[..., Result], document: object) -> None:
    """The receipt is found in the reply, and in a stream as curl writes it down."""
    assert replay(document).exit_code == 0


def test_token_that_differs(replay: Callable[..., Result], server: ReplayServer) -> None:
    """The first is told with its place, and the texts of both, which the server is asked for."""
    answers(server, replace(RECEIPT, tokens=(500, 501, 600, 601, 2)))
    server.answers["/v1/completions"] = {"choices": [{"logprobs": {"tokens": ["one", " two", " three"]}}]}
    result = replay(RECEIPT.facts())
    assert result.exit_code == 1
    assert told(result) == "not reproduced: token 3 is 502, ' two', in the receipt and 600, ' two', now"
    asked = {"max_tokens": 1, "temperature": 0, "echo": True, "logprobs": 0}
    assert server.posted[1:] == [("/v1/completions", {"prompt": [501, id], **asked}) for id in (502, 600)]


@pytest.mark.parametrize(
    ("tokens", "line"),
    [
        ((500, 501), "token 3 is 502 in the receipt and missing now"),
        ((500, 501, 502, 2, 9), "token 5 is missing in the receipt and 9 now"),
        ((9, 501, 502, 2), "token 1 is 500 in the receipt and 9 now"),
    ],
)
def test_server_that_tells_no_texts(
    replay: Callable[..., Result], server: ReplayServer, tokens: tuple[int, ...], line: str
) -> None:
    """The ids will do."""
    answers(server, replace(RECEIPT, tokens=tokens))
    result = replay(RECEIPT.facts())
    assert (result.exit_code, told(result)) == (1, f"not reproduced: {line}")


def test_another_prompt(replay: Callable[..., Result], server: ReplayServer) -> None:
    """Nothing else is judged, though the tokens are the same."""
    answers(server, replace(RECEIPT, prompt=replace(RECEIPT.prompt, digest="00" * 32)))
    result = replay(RECEIPT.facts())
    assert (result.exit_code, told(result)) == (1, "another prompt or picture: there is nothing to compare")


def test_what_else_differs(replay: Callable[..., Result], server: ReplayServer) -> None:
    """It is told, and decides nothing: another backend may well give the same tokens."""
    other = replace(RECEIPT.server, backend="cpu_reference", model_digest="00" * 32, details={"dtype": "float32"})
    answers(server, replace(RECEIPT, server=other, parameters={**RECEIPT.parameters, "temperature": 2}))
    result = replay(RECEIPT.facts())
    names = "temperature, model digest, backend, deterministic, dtype"
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-2:] == [f"what differs beside tokens: {names}", "reproduced: the same 4 tokens"]
    (row,) = [line for line in result.stdout.splitlines() if "│ dtype" in line]
    assert row.split()[1::2] == ["dtype", "bfloat16", "float32"]
    assert all(len(line) <= 120 for line in result.stdout.splitlines()[:-2])


def test_key_of_the_server(replay: Callable[..., Result], server: ReplayServer) -> None:
    """Given, or from the variable that the server reads too."""
    for options, environment in ((["--api-key", "secret"], {}), ([], {"API_KEY": "secret"})):
        assert replay(RECEIPT.facts(), TGI, *options, **environment).exit_code == 0
        assert server.authorization == "Bearer secret"


def test_certificate_of_the_server(replay: Callable[..., Result], server: ReplayServer, tmp_path: Path) -> None:
    """Signed by an authority of one's own, which is given; a file that is none is told."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    (tmp_path / "none.pem").write_text("nothing")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    url = ("--url", server.url.replace("http:", "https:"))
    assert replay(RECEIPT.facts(), TGI, *url, "--cacert", str(tmp_path / "ca.pem")).exit_code == 0
    refused = replay(RECEIPT.facts(), TGI, *url, "--cacert", str(tmp_path / "none.pem"))
    assert refused.exit_code == 2
    assert refused.stderr.endswith("none.pem holds no PEM certificate\n")


@pytest.mark.parametrize(
    ("receipt", "request_body", "line"),
    [
        ("nonsense", TGI, "RECEIPT is no JSON"),
        ("data: nonsense\n\n", TGI, "an event of RECEIPT is no JSON"),
        ("\xff", TGI, "RECEIPT is no JSON"),
        ({"details": {"seed": 1}}, TGI, "there is no receipt in it; ask for one with `receipt: true`"),
        ([], TGI, "there is no receipt in it; ask for one with `receipt: true`"),
        ({**RECEIPT.facts(), "seed": "5"}, TGI, "the receipt is not as it was written: its content does not have its"),
        (RECEIPT.facts(), "[", "the request is no JSON"),
        (RECEIPT.facts(), {"instances": []}, "the request has no `messages`, `prompt` or `inputs`; give the body"),
        (RECEIPT.facts(), ["inputs"], "the request has no `messages`, `prompt` or `inputs`; give the body"),
        (RECEIPT.facts(), {"inputs": "a", "parameters": 7}, "`parameters` of the request is no object"),
    ],
)
def test_wrong_input(
    replay: Callable[..., Result], server: ReplayServer, receipt: object, request_body: object, line: str
) -> None:
    """One line, status 2, and nothing was posted."""
    result = replay(receipt, request_body)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"Error: {line}")
    assert result.stderr.count("\n") == 1
    assert server.posted == []


@pytest.mark.parametrize(
    ("status", "answer", "line"),
    [
        (422, {"error": "too long", "error_type": "validation"}, "the server answered 422: too long"),
        (429, {"error": {"message": "later"}}, "the server answered 429: later"),
        (502, ["odd"], "the server answered 502: without a reason"),
        (
            200,
            {"details": {"seed": 3}},
            "the server answered without a receipt that can be read: there is no receipt in it; "
            "ask for one with `receipt: true`",
        ),
    ],
)
def test_server_that_gives_none(
    replay: Callable[..., Result], server: ReplayServer, status: int, answer: object, line: str
) -> None:
    """In its own words."""
    server.status, server.answers["/generate"] = status, answer
    result = replay(RECEIPT.facts())
    assert (result.exit_code, result.stderr) == (2, f"Error: {line}\n")


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "ftp://127.0.0.1", "http://[::1"])
def test_no_server(replay: Callable[..., Result], url: str) -> None:
    """Whether nobody listens or the address is none."""
    result = replay(RECEIPT.facts(), TGI, "--url", url)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: no answer from {url} (")
