"""`runtime ask` against a server that answers what the test wants."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from runtime.cli import main

DONE = "data: [DONE]\n\n"


def chunk(text: str) -> str:
    """One event of a chat stream."""
    return f"data: {json.dumps({'choices': [{'index': 0, 'delta': {'content': text}}]})}\n\n"


class ChatServer(HTTPServer):
    """Gives every request the same answer and remembers the last."""

    status, answer, promised = 200, DONE, 0
    path: str
    body: dict[str, Any]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    """One request."""

    server: ChatServer

    def do_POST(self) -> None:
        self.server.path = self.path
        self.server.body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        answer = self.server.answer.encode()
        self.send_response(self.server.status)
        self.send_header("content-length", str(self.server.promised or len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_arguments: Any) -> None:
        """Be quiet."""


@pytest.fixture
def chat() -> Iterator[ChatServer]:
    """A server on a free port of loopback."""
    with ChatServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(*arguments: str) -> Result:
    """Run the command; no proxy of the environment comes between."""
    return CliRunner(env={"NO_PROXY": "*"}).invoke(main, ["ask", *arguments])


def test_answer_is_printed(chat: ChatServer) -> None:
    """As it comes, without the space a tokenizer puts before the first word."""
    chat.answer = ": keep-alive\n\n" + chunk("") + chunk(" ") + chunk(" This is") + chunk(" a ☆.") + DONE
    result = ask("--url", chat.url + "/", "What is this?")
    assert (result.exit_code, result.stdout) == (0, "This is a ☆.\n")
    assert chat.path == "/v1/chat/completions"
    assert chat.body == {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "What is this?"}]}],
        "temperature": 0,
        "stream": True,
        "max_tokens": None,
    }


def test_pictures_go_before_the_question(chat: ChatServer, tmp_path: Path) -> None:
    """In their order, as data URIs; the server reads their kind from the bytes."""
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(name.encode())
    pictures = [option for name in ("one", "two") for option in ("--image", str(tmp_path / name))]
    assert ask("--url", chat.url, *pictures, "--max-new-tokens", "5", "Which?").exit_code == 0
    *images, text = chat.body["messages"][0]["content"]
    assert [image["image_url"]["url"] for image in images] == [
        "data:;base64," + base64.b64encode(name).decode() for name in (b"one", b"two")
    ]
    assert text == {"type": "text", "text": "Which?"}
    assert chat.body["max_tokens"] == 5


@pytest.mark.parametrize(
    ("status", "answer", "told"),
    [
        (422, '{"error": {"message": "the prompt is too long"}}', "the prompt is too long"),
        (502, "<html>Bad gateway</html>", "the server answered 502"),
        (500, '["odd"]', "the server answered 500"),
        (500, '{"error": {"odd": 1}}', "the server answered 500"),
        (429, '{"error": "the server is full", "error_type": "overloaded"}', "the server is full"),
    ],
)
def test_refusal_is_one_line(chat: ChatServer, status: int, answer: str, told: str) -> None:
    """The server's own words where there are any."""
    chat.status, chat.answer = status, answer
    result = ask("--url", chat.url, "What?")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", f"Error: {told}\n")


def test_error_in_the_stream(chat: ChatServer) -> None:
    """After a part of the answer, on a line of its own."""
    chat.answer = chunk("This") + 'data: {"error": {"message": "the worker is gone"}}\n\n' + DONE
    result = ask("--url", chat.url, "What?")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "This\n", "Error: the worker is gone\n")


@pytest.mark.parametrize("answer", ["data: nonsense\n\n", 'data: {"choices": []}\n\n', "data: 7\n\n"])
def test_stream_of_another_kind(chat: ChatServer, answer: str) -> None:
    """A server that does not speak the chat API is told as such."""
    chat.answer = answer
    result = ask("--url", chat.url, "What?")
    told = f"Error: {chat.url} answered what is no chat reply; is it the address of `runtime serve`?\n"
    assert (result.exit_code, result.stderr) == (1, told)


def test_connection_that_breaks(chat: ChatServer) -> None:
    """In the middle of the answer."""
    chat.answer, chat.promised = chunk("This"), 10_000
    result = ask("--url", chat.url, "What?")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: no answer from {chat.url} (")


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1", "ftp://127.0.0.1", "127.0.0.1:3000", "http://[::1", "http://a:b"]
)
def test_unreachable_server_is_one_line(url: str) -> None:
    """Whether nobody listens or the address is none."""
    result = ask("--url", url, "What?")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: no answer from {url} (")
    assert result.stderr.endswith("); is the server running?\n")
    assert result.stderr.count("\n") == 1


def test_missing_picture() -> None:
    """Refused before anything is sent."""
    result = ask("--image", "no-such-file.png", "What?")
    assert result.exit_code == 2
    assert "'no-such-file.png' does not exist" in result.stderr
