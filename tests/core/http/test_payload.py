"""The bound on a body holds however the body comes, and nothing larger reaches a route."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
from runtime.http.payload import PayloadLimit
from starlette.types import Message, Receive, Scope, Send
from support.asgi import PAYLOAD_LIMIT, client, text_of
from support.scripted import ScriptedRuntime, last, token

pytestmark = pytest.mark.anyio

JSON = {"content-type": "application/json"}
REFUSAL = "the body is larger than 10000 bytes; the operator's limit is --payload-limit"


def body_of(size: int) -> bytes:
    """A valid request of exactly `size` bytes."""
    empty = json.dumps({"inputs": ""}).encode()
    return json.dumps({"inputs": "x" * (size - len(empty))}).encode()


async def chunked(body: bytes) -> AsyncIterator[bytes]:
    """Without a declared length, in pieces."""
    for start in range(0, len(body), 999):
        yield body[start : start + 999]


@pytest.mark.parametrize("path", ["/generate", "/generate_stream"])
async def test_the_limit_itself_is_allowed(path: str) -> None:
    """Declared or chunked, a body of just the limit is served."""
    body = body_of(PAYLOAD_LIMIT)
    assert len(body) == PAYLOAD_LIMIT
    async with client(ScriptedRuntime(last("a", token("a")))) as http:
        assert (await http.post(path, content=body, headers=JSON)).status_code == 200
        assert (await http.post(path, content=chunked(body), headers=JSON)).status_code == 200


@pytest.mark.parametrize("path", ["/generate", "/generate_stream", "/v1/chat/completions", "/nowhere"])
async def test_one_byte_more_is_refused_by_its_declared_length(path: str) -> None:
    """The body never reaches a route, and the connection is closed."""
    runtime = ScriptedRuntime(last("a", token("a")))
    async with client(runtime) as http:
        answer = await http.post(path, content=body_of(PAYLOAD_LIMIT + 1), headers=JSON)
    assert (answer.status_code, text_of(answer)) == (413, REFUSAL)
    assert answer.headers["connection"] == "close"
    assert not runtime.requests


@pytest.mark.parametrize("path", ["/generate", "/generate_stream", "/v1/chat/completions"])
async def test_one_byte_more_is_refused_while_it_arrives(path: str) -> None:
    """A chunked body declares no length and is counted; no route sees it."""
    runtime = ScriptedRuntime(last("a", token("a")))
    async with client(runtime) as http:
        answer = await http.post(path, content=chunked(body_of(PAYLOAD_LIMIT + 1)), headers=JSON)
    assert (answer.status_code, text_of(answer)) == (413, REFUSAL)
    assert not runtime.requests


async def test_only_http_is_bounded() -> None:
    """Other messages of a server, such as those of its start, pass untouched."""
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await receive()

    async def receive() -> Message:
        return {"type": "lifespan.startup", "body": b"x" * (PAYLOAD_LIMIT + 1)}

    async def send(message: Message) -> None: ...

    await PayloadLimit(app, PAYLOAD_LIMIT)({"type": "lifespan"}, receive, send)
    assert seen == [{"type": "lifespan"}]


async def test_a_false_length_is_no_way_round() -> None:
    """A small declared length, or none that is a number, does not switch the counting off."""
    async with client(ScriptedRuntime(last("a", token("a")))) as http:
        for length in ("5", "x"):
            headers = {**JSON, "content-length": length}
            answer = await http.post("/generate", content=chunked(body_of(PAYLOAD_LIMIT + 1)), headers=headers)
            assert answer.status_code == 413


async def test_a_refused_body_is_read_before_the_answer() -> None:
    """A connection closed with bytes unread is reset, and the client would see that instead of the 413."""
    left = [b"x" * 6000, b"x" * 6000, b"x" * 6000]
    sent: list[tuple[str, int]] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": left.pop(), "more_body": bool(left)}

    async def send(message: Message) -> None:
        sent.append((message["type"], len(left)))

    async def nothing(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise AssertionError("no route may see it")

    scope = {"type": "http", "path": "/generate", "headers": [(b"content-length", b"18000")]}
    await PayloadLimit(nothing, PAYLOAD_LIMIT)(scope, receive, send)
    assert sent[0] == ("http.response.start", 0)
