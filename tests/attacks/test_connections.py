"""Clients that write what no client should, or too slowly, or never read: each harms itself, in bounded time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from runtime.http.app import create_app
from runtime.http.options import HttpOptions
from runtime.serve.connection import FREE_PIECES
from starlette.types import Message, Receive, Scope, Send
from support.listening import LIMITS, PATIENT, Listening, listening
from support.scripted import ScriptedRuntime, last, token

pytestmark = pytest.mark.anyio

SECONDS = 20
"""After which a test that should have ended long ago fails."""
HEALTH = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"
ASK = b'{"inputs": "two"}'


def head(length: int, path: str = "/generate") -> bytes:
    """The head of a request whose body has that many bytes."""
    lines = (f"POST {path} HTTP/1.1", "Host: a", "Content-Type: application/json", f"Content-Length: {length}")
    return "\r\n".join((*lines, "\r\n")).encode()


@pytest.fixture
async def server() -> AsyncIterator[Listening]:
    """All routes; no limit of time."""
    async with serving(ScriptedRuntime(last("a", token("a")))) as server:
        yield server


def serving(runtime: ScriptedRuntime, **options: Any) -> Any:
    return listening(create_app(runtime, HttpOptions(10_000, **options)))


@pytest.fixture(autouse=True)
async def _bounded(caplog: pytest.LogCaptureFixture) -> AsyncIterator[None]:
    """No attack writes a line into the log, a traceback least of all."""
    yield
    assert not caplog.records


BAD = {
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "no host": (b"GET /health HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    "control characters": (b"GET /health HTTP/1.1\r\nHost: a\r\nx: \x00\r\n\r\n", 400),
    "space before the colon": (b"GET /health HTTP/1.1\r\nHost: a\r\nx : y\r\n\r\n", 400),
    "two lengths": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", 400),
    "negative length": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
    "length and chunks": (
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "other encodings": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 400),
    "bad chunk": (b"POST /generate HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
    "long address": (b"GET /" + b"a" * 2**13 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    "long query": (b"GET /health?" + b"a" * 2**13 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    "endless address": (b"GET /" + b"a" * 2**20, 414),
    "giant header": (b"GET /health HTTP/1.1\r\nHost: a\r\nx: " + b"a" * 2**16 + b"\r\n\r\n", 431),
    "endless header": (b"GET /health HTTP/1.1\r\nHost: a\r\nx: " + b"a" * 2**20, 431),
    "endless headers": (b"GET /health HTTP/1.1\r\nHost: a\r\n" + b"x: y\r\n" * 2**16, 431),
    "101 headers": (b"GET /health HTTP/1.1\r\nHost: a\r\n" + b"x: y\r\n" * 100 + b"\r\n", 431),
    "tiny chunks": (
        b"POST /generate HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 2 * FREE_PIECES,
        400,
    ),
    "endless trailers": (
        b"POST /generate HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"x: y\r\n" * 2**16,
        431,
    ),
}


@pytest.mark.parametrize("attack", BAD)
async def test_refused_by_its_bytes(server: Listening, attack: str) -> None:
    """A typed error, an end to the connection, and the server serves on."""
    data, status = BAD[attack]
    client = await server.client()
    await client.send(data)
    answer = await asyncio.wait_for(client.answer(), SECONDS)
    assert (answer.status, answer.headers["connection"], answer.body["error_type"]) == (status, "close", "validation")
    assert "server" not in answer.headers
    await asyncio.wait_for(client.ended(), SECONDS)
    assert (await server.asked(HEALTH)).status == 200


async def test_envelope_of_openai(server: Listening) -> None:
    """Where the path is known, its form is."""
    answer = await server.asked(b"GET /v1/models HTTP/1.1\r\nHost: a\r\n" + b"x: y\r\n" * 100 + b"\r\n")
    assert (answer.status, answer.body["error"]["code"]) == (431, "headers_too_large")


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("GET //health", 404),
        ("GET /health/", 404),
        ("GET /%2Fhealth", 404),
        ("GET /health%2F", 404),
        ("GET /../health", 404),
        ("GET /health%00", 404),
        ("GET http://a/health", 404),
        ("GET http://evil/metrics", 404),
        ("OPTIONS *", 404),
        ("CONNECT evil:443", 404),
        ("TRACE /health", 405),
        ("PUT /generate", 405),
        ("GET /generate", 405),
        ("BREW /health", 405),
        ("GET /%68ealth", 200),
    ],
)
async def test_only_known_paths(server: Listening, line: str, status: int) -> None:
    """Nothing is guessed, and nobody is sent elsewhere."""
    answer = await server.asked(f"{line} HTTP/1.1\r\nHost: evil\r\n\r\n".encode())
    assert (answer.status, answer.headers.get("location")) == (status, None)


@pytest.mark.parametrize("path", ["//health", "/health/", "/%2Fhealth", "http://a/health", "*", "/Health", "/health;a"])
async def test_spellings_do_not_open_the_door(path: str) -> None:
    """What is a probe's path for the key's check is one for the routes too, and the other way round."""
    async with serving(ScriptedRuntime(), api_key="Secret") as server:
        assert (await server.asked(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())).status == 401


@pytest.mark.parametrize("protocol", ["websocket", "h2c", "TLS/1.2"])
async def test_upgrades_are_not_heeded(server: Listening, protocol: str) -> None:
    """The request is served as it stands."""
    lines = ("GET /health HTTP/1.1", "Host: a", "Connection: Upgrade", f"Upgrade: {protocol}", "HTTP2-Settings: AAMA")
    answer = await server.asked("\r\n".join((*lines, "\r\n")).encode())
    assert answer.status == 200


async def test_forwarded_headers_are_not_believed() -> None:
    """The client's address is its own."""
    seen: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((scope["client"][0], scope["scheme"]))
        await answer_nothing(scope, receive, send)

    async with listening(app) as server:
        lines = "X-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Proto: https\r\nForwarded: for=9.9.9.9"
        await server.asked(f"GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n".encode())
    assert seen == [("127.0.0.1", "http")]


async def answer_nothing(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


async def test_pipelined_requests_are_answered_in_turn(server: Listening) -> None:
    """Each once, however many come at once."""
    client = await server.client()
    await client.send((head(len(ASK)) + ASK + HEALTH) * 50)
    statuses = [(await asyncio.wait_for(client.answer(), SECONDS)).status for _ in range(100)]
    assert statuses == [200] * 100


@pytest.mark.parametrize("sent", [b"", b"GET /hea", HEALTH + b"GET"])
async def test_slow_head(sent: bytes) -> None:
    """It must be whole in time, drips or not."""
    app = create_app(ScriptedRuntime(), HttpOptions(10_000))
    async with listening(app, replace(PATIENT, head_seconds=0.1)) as server:
        client = await server.client()
        await client.send(sent)
        if sent.startswith(HEALTH):
            assert (await client.answer()).status == 200
        dripping = asyncio.ensure_future(drip(client.writer, b"x")) if sent else None
        answer = await asyncio.wait_for(client.answer(), SECONDS)
        assert (answer.status, answer.headers["connection"]) == (408, "close")
        await asyncio.wait_for(client.ended(), SECONDS)
        if dripping is not None:
            dripping.cancel()


async def drip(writer: asyncio.StreamWriter, data: bytes) -> None:
    while not writer.is_closing():
        writer.write(data)
        await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    "limits",
    [replace(PATIENT, silence_seconds=0.1), replace(PATIENT, grace_seconds=0.1, body_rate=1e6)],
    ids=["silence", "drip"],
)
async def test_slow_body(limits: Any, request: pytest.FixtureRequest) -> None:
    """A body that stops, or drips below the least rate, is given up; no route has seen it."""
    runtime = ScriptedRuntime()
    async with listening(create_app(runtime, HttpOptions(10_000)), limits) as server:
        client = await server.client()
        await client.send(head(9000) + b'{"inputs": "')
        dripping = None
        if "drip" in request.node.name:
            dripping = asyncio.ensure_future(drip(client.writer, b"x"))
        answer = await asyncio.wait_for(client.answer(), SECONDS)
        assert (answer.status, answer.headers["connection"]) == (408, "close")
        await asyncio.wait_for(client.ended(), SECONDS)
        if dripping is not None:
            dripping.cancel()
    assert not runtime.requests


async def test_a_slow_reply_is_no_slow_client() -> None:
    """While a request is at work, its client has nothing to do."""
    done = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await done.wait()
        await answer_nothing(scope, receive, send)

    limits = replace(LIMITS, head_seconds=0.05, silence_seconds=0.05, grace_seconds=0.05, body_rate=1e9)
    async with listening(app, limits) as server:
        client = await server.client()
        await client.send(head(len(ASK)) + ASK)
        asyncio.get_running_loop().call_later(0.3, done.set)
        assert (await asyncio.wait_for(client.answer(), SECONDS)).status == 204


@pytest.mark.parametrize(("key", "status"), [(None, 404), ("Secret", 401)])
async def test_a_body_after_its_answer_ends(key: str | None, status: int) -> None:
    """What nobody wants is read for a moment only, so that the answer arrives."""
    app = create_app(ScriptedRuntime(), HttpOptions(10_000, api_key=key))
    async with listening(app, replace(PATIENT, close_seconds=0.1)) as server:
        client = await server.client()
        await client.send(head(9000, path="/nowhere"))
        assert (await asyncio.wait_for(client.answer(), SECONDS)).status == status
        dripping = asyncio.ensure_future(drip(client.writer, b"x"))
        await asyncio.wait_for(client.ended(), SECONDS)
        dripping.cancel()


async def test_a_client_that_never_reads() -> None:
    """The answer waits in bounded buffers, then the connection ends, and with it the work."""
    written = 0
    ended = asyncio.Event()

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal written
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        gone = asyncio.ensure_future(hang_up(receive))
        while not gone.done():
            await send({"type": "http.response.body", "body": b"x" * 2**14, "more_body": True})
            written += 2**14
        ended.set()

    async def hang_up(receive: Receive) -> None:
        message: Message = {"type": ""}
        while message["type"] != "http.disconnect":
            message = await receive()

    async with listening(app, replace(PATIENT, unread_seconds=0.2)) as server:
        await (await server.client(receive_buffer=4096)).send(head(len(ASK)) + ASK)
        await asyncio.wait_for(ended.wait(), SECONDS)
    assert written < 2**24


@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_a_client_that_reads_on_is_served(version: str) -> None:
    """However long it takes in all, and whether or not the connection ends with the answer."""
    size = 2**23

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        length = [(b"content-length", str(size).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": length})
        await send({"type": "http.response.body", "body": b"x" * size})

    async with listening(app, replace(PATIENT, unread_seconds=0.3)) as server:
        client = await server.client(receive_buffer=4096)
        await client.send(head(len(ASK)).replace(b"1.1", version.encode()) + ASK)
        assert len((await asyncio.wait_for(client.answer(), SECONDS)).body) == size


async def test_connections_are_bounded() -> None:
    """One more ends the one that has waited longest without asking; requests at work stay."""
    running, started = asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/generate":
            started.set()
            await running.wait()
        await answer_nothing(scope, receive, send)

    async with listening(app, replace(PATIENT, connections=3)) as server:
        worker = await server.client()
        await worker.send(head(len(ASK)) + ASK)
        await started.wait()
        idle = [await server.client() for _ in range(20)]
        assert (await server.asked(HEALTH)).status == 204
        for client in idle[:-2]:
            await asyncio.wait_for(client.ended(), SECONDS)
        assert len(server.server.server_state.connections) <= 3
        running.set()
        assert (await asyncio.wait_for(worker.answer(), SECONDS)).status == 204


async def test_all_connections_at_work() -> None:
    """Then a new one is told so."""
    running, started = asyncio.Event(), asyncio.Semaphore(0)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        started.release()
        await running.wait()
        await answer_nothing(scope, receive, send)

    async with listening(app, replace(PATIENT, connections=2)) as server:
        workers = [await server.client() for _ in range(2)]
        for worker in workers:
            await worker.send(head(len(ASK)) + ASK)
        for _ in workers:
            await started.acquire()
        refused = await asyncio.wait_for((await server.client()).answer(), SECONDS)
        assert (refused.status, refused.body["error_type"]) == (503, "overloaded")
        running.set()
        assert [(await worker.answer()).status for worker in workers] == [204, 204]
