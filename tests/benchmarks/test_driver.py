"""The client of the benchmarks: events out of bytes, and what it makes of a server's answers."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.serving.driver import DriverError, drive
from benchmarks.serving.events import EventParser

STREAM = b'data: {"a":1}\n\n:\n\ndata:{"b":2}\n\nevent: end\n\ndata: [DONE]\n\n'


@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_events_are_the_same_however_the_bytes_are_cut(cuts: list[int]) -> None:
    """Comments and other fields are passed over."""
    parser = EventParser()
    places = [0, *sorted(cuts), len(STREAM)]
    found = [data for a, b in itertools.pairwise(places) for data in parser.feed(STREAM[a:b])]
    assert found == [b'{"a":1}', b'{"b":2}', b"[DONE]"]


def chunk(data: str) -> bytes:
    return f"{len(data):x}\r\n{data}\r\n".encode()


def token(details: object = None) -> str:
    return f"data: {json.dumps({'token': {'text': 'x'}, 'details': details})}\n\n"


HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST = token({"generated_tokens": 2, "input_length": 7})


@contextmanager
def serving(answer: bytes) -> Iterator[int]:
    """A server on another thread that reads a request and gives this answer; yields its port."""

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(reply, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        loop.run_until_complete(server.wait_closed())
        loop.close()


def test_every_request_gets_its_reply() -> None:
    """A time for each token, and the length of the prompt as the server tells it."""
    with serving(HEAD + chunk(token()) + chunk(LAST) + b"0\r\n\r\n") as port:
        replies = drive(port, ["one", "two"], new_tokens=2)
    assert [(len(reply.times), reply.prompt_tokens) for reply in replies] == [(2, 7), (2, 7)]
    assert all(reply.asked <= reply.times[0] <= reply.times[1] for reply in replies)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 2\r\n\r\n{}", "429"),
        (HEAD + chunk(LAST) + b"0\r\n\r\n", "1 events came for 2 tokens"),
        (HEAD + chunk('data: {"error":"full"}\n\n') + b"0\r\n\r\n", "full"),
        (HEAD + b"0\r\n\r\n", "0 events came"),
    ],
    ids=["refused", "too-few", "error", "nothing"],
)
def test_a_reply_that_is_not_whole_is_no_measurement(answer: bytes, told: str) -> None:
    """The run ends with what the server said."""
    with serving(answer) as port, pytest.raises(DriverError, match=told):
        drive(port, ["one"], new_tokens=2)
