"""A client that hangs up frees its row, whatever the request is waiting for."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator, Iterator
from functools import partial
from typing import Any

import pytest
from runtime.http import sse
from runtime.http.app import create_app
from runtime.http.options import HttpOptions
from runtime.local import LocalRuntime
from runtime.runtime import Delta, GenerateRequest
from support.arithmetic import expected
from support.asgi import PAYLOAD_LIMIT, Exchange
from support.gated import ONE_ROW, GatedBackend
from support.scripted import ScriptedRuntime, last, token
from support.serving import arithmetic_runtime, ids, reply, tokens_request

pytestmark = pytest.mark.anyio

TGI = {"inputs": "two", "parameters": {"max_new_tokens": 40}}
CHAT = {"messages": [{"role": "user", "content": "two"}], "max_tokens": 40, "temperature": 0}
STREAMED = [("/generate_stream", TGI), ("/v1/chat/completions", {**CHAT, "stream": True})]
ALL = [("/generate", TGI), ("/v1/chat/completions", CHAT), *STREAMED]


@pytest.fixture(autouse=True)
def _no_garbage_collection() -> Iterator[None]:
    """A row must not wait for the garbage collector to close the stream that holds it."""
    gc.disable()
    yield
    gc.enable()


def exchange(runtime: LocalRuntime, path: str, body: dict[str, Any]) -> Exchange:
    return Exchange(create_app(runtime, HttpOptions(PAYLOAD_LIMIT)), path, body)


async def assert_row_is_free(runtime: LocalRuntime, backend: GatedBackend) -> None:
    """Let the step at work end: the only row must then be free for another request."""
    waiting = asyncio.ensure_future(reply(runtime, tokens_request([1, 700], 1)))
    backend.gate.release()
    assert ids(await waiting) == expected([1, 700], 1)
    assert backend.count("decode") <= 1


@pytest.mark.parametrize(("path", "body"), STREAMED)
async def test_between_two_events(path: str, body: dict[str, Any]) -> None:
    """The client has the first event and leaves while the second token is computed."""
    backend = GatedBackend(ONE_ROW)
    async with arithmetic_runtime(backend, ONE_ROW) as runtime:
        http = exchange(runtime, path, body)
        assert await http.status() == 200
        assert (await http.piece()).startswith(b"data: {")
        await http.hang_up()
        await assert_row_is_free(runtime, backend)


@pytest.mark.parametrize(("path", "body"), STREAMED)
async def test_while_an_event_is_sent(path: str, body: dict[str, Any]) -> None:
    """The client reads nothing more, so that the application waits in `send`, and leaves."""
    backend = GatedBackend(ONE_ROW)
    async with arithmetic_runtime(backend, ONE_ROW) as runtime:
        http = exchange(runtime, path, body)
        assert await http.status() == 200
        http.writable.clear()
        await http.piece()
        await http.hang_up()
        await assert_row_is_free(runtime, backend)


@pytest.mark.parametrize(("path", "body"), STREAMED)
async def test_while_a_comment_is_sent(path: str, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The application waits in `send` and for the next token at once."""
    monkeypatch.setattr(sse, "Line", partial(sse.Line, seconds=0))
    backend = GatedBackend(ONE_ROW)
    async with arithmetic_runtime(backend, ONE_ROW) as runtime:
        http = exchange(runtime, path, body)
        assert await http.status() == 200
        while await http.piece() != sse.KEEP_ALIVE:
            pass
        http.writable.clear()
        while await http.piece() != sse.KEEP_ALIVE:
            pass
        await http.hang_up()
        await assert_row_is_free(runtime, backend)


@pytest.mark.parametrize(("path", "body"), STREAMED)
async def test_while_the_headers_are_sent(path: str, body: dict[str, Any]) -> None:
    """No event was ever asked for, so no generator of the answer was entered."""
    backend = GatedBackend(ONE_ROW)
    async with arithmetic_runtime(backend, ONE_ROW) as runtime:
        http = exchange(runtime, path, body)
        http.writable.clear()
        assert await http.status() == 200
        await http.hang_up()
        await assert_row_is_free(runtime, backend)


@pytest.mark.parametrize(("path", "body"), [each for each in ALL if each not in STREAMED])
async def test_whole_reply(path: str, body: dict[str, Any]) -> None:
    """The client leaves while the reply is computed."""
    backend = GatedBackend(ONE_ROW)
    async with arithmetic_runtime(backend, ONE_ROW) as runtime:
        http = exchange(runtime, path, body)
        await backend.started()
        await http.hang_up()
        await assert_row_is_free(runtime, backend)


@pytest.mark.parametrize(("path", "body"), ALL)
async def test_before_the_first_token(path: str, body: dict[str, Any]) -> None:
    """A request whose client leaves while it waits for a row is never computed."""
    backend = GatedBackend(ONE_ROW)
    async with arithmetic_runtime(backend, ONE_ROW) as runtime:
        first = asyncio.ensure_future(reply(runtime, tokens_request([1, 500], 3)))
        await backend.started()
        http = exchange(runtime, path, body)
        await http.accepted()
        await http.hang_up()
        assert await http.status() == 499
        backend.gate.release(2)
        assert ids(await first) == expected([1, 500], 3)
        assert ids(await reply(runtime, tokens_request([1, 700], 1))) == expected([1, 700], 1)
    assert backend.count("prefill") == 2


@pytest.mark.parametrize(("path", "body"), STREAMED)
async def test_cancelled_as_the_first_token_comes(path: str, body: dict[str, Any]) -> None:
    """A server that is shut down cancels its requests; the token that nobody takes up must not keep a stream open."""

    class Cancelling(ScriptedRuntime):
        async def generate(self, request: GenerateRequest) -> AsyncGenerator[Delta, None]:
            try:
                http.ended.cancel()
                yield last("a", token("a"))
            finally:
                self.closed += 1

    runtime = Cancelling()
    http = Exchange(create_app(runtime, HttpOptions(PAYLOAD_LIMIT)), path, body)
    with pytest.raises(asyncio.CancelledError):
        await http.ended
    assert runtime.closed == 1


async def test_not_noticed_when_the_client_stays() -> None:
    """Reading on gives the whole reply: nothing is cancelled by looking for a hang-up."""
    backend = GatedBackend(ONE_ROW)
    backend.gate.release(39)
    async with arithmetic_runtime(backend, ONE_ROW) as runtime:
        http = exchange(runtime, "/generate", TGI)
        assert await http.status() == 200
        assert b'"generated_text"' in await http.piece()
        await http.ended
