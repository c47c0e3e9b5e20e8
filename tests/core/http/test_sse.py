"""Server-sent events: framing, silence, and what closes what."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime.errors import InvalidRequest
from runtime.http import sse
from starlette.types import Message, Scope

pytestmark = pytest.mark.anyio


@given(st.dictionaries(st.text(), st.text() | st.none() | st.integers()))
def test_an_event_is_one_line(data: dict[str, object]) -> None:
    """Whatever the texts hold, line ends included, a frame has one `data:` line that reads back, and a blank line."""
    frame = sse.event(data)
    assert frame.startswith(b"data: ")
    assert frame.endswith(b"\n\n")
    assert b"\n" not in frame[:-2]
    assert b"\r" not in frame
    assert json.loads(frame[6:]) == data


def test_an_event_is_compact_and_readable() -> None:
    """No spaces, and characters as themselves, as serde writes them in TGI."""
    assert sse.event({"a": [1, None], "b": "é"}) == 'data: {"a":[1,null],"b":"é"}\n\n'.encode()


HEAD: Message = {"type": "http.response.start", "status": 200}
END: Message = {"type": "http.response.body", "body": b"", "more_body": False}
COMMENT: Message = {"type": "http.response.body", "body": b":\n\n", "more_body": True}


def piece(body: bytes) -> Message:
    """A part of the answer that is not its last."""
    return {"type": "http.response.body", "body": body, "more_body": True}


class Client:
    """Gets messages; reads them only while it is willing."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[Message] = asyncio.Queue()
        self.is_willing = asyncio.Event()
        self.is_willing.set()
        self.offered = asyncio.Event()

    async def send(self, message: Message) -> None:
        self.offered.set()
        await self.is_willing.wait()
        self.messages.put_nowait(message)

    def got(self) -> list[Message]:
        """What there is so far."""
        return [self.messages.get_nowait() for _ in range(self.messages.qsize())]


@asynccontextmanager
async def line_of(client: Client, seconds: float) -> AsyncIterator[sse.Line]:
    """A line whose silences are filled meanwhile."""
    line = sse.Line(client.send, seconds)
    filling = asyncio.ensure_future(line.fill())
    try:
        yield line
    finally:
        filling.cancel()
        await asyncio.gather(filling, return_exceptions=True)


async def rounds(count: int = 20) -> None:
    """Let every task go on for so many turns."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_silence_is_filled_with_comments() -> None:
    """Between the head and the end only; what is said comes through in order."""
    client = Client()
    async with line_of(client, seconds=0) as line:
        await rounds()
        assert client.got() == []
        await line.send(HEAD)
        assert await client.messages.get() == HEAD
        assert [await client.messages.get() for _ in range(3)] == [COMMENT] * 3
        await line.send(piece(b"one"))
        await line.send(END)
        said = client.got()
        assert [message for message in said if message != COMMENT] == [piece(b"one"), END]
        assert said[-1] == END
        await rounds()
        assert client.got() == []


async def test_there_are_no_comments_while_events_come() -> None:
    """The silence is not long enough."""
    client = Client()
    async with line_of(client, seconds=60) as line:
        for message in (HEAD, piece(b"one"), piece(b"two"), END):
            await line.send(message)
            await rounds()
        assert client.got() == [HEAD, piece(b"one"), piece(b"two"), END]


async def test_an_event_waits_for_a_comment_that_is_not_read() -> None:
    """And so does the end: nothing comes behind it."""
    client = Client()
    async with line_of(client, seconds=0) as line:
        await line.send(HEAD)
        client.is_willing.clear()
        client.offered.clear()
        await client.offered.wait()  # of a comment
        ending = asyncio.ensure_future(line.send(END))
        await rounds()
        assert not ending.done()
        client.is_willing.set()
        await ending
        assert client.got()[-1] == END


async def events(*frames: bytes | Exception) -> AsyncGenerator[bytes, None]:
    """Frames; an exception is raised."""
    for frame in frames:
        if isinstance(frame, Exception):
            raise frame
        yield frame


async def test_an_error_becomes_an_event() -> None:
    """What came before it is kept, and the end mark follows."""
    scope: Scope = {"type": "http", "path": "/generate_stream", "headers": []}
    error = InvalidRequest("broken")
    frames = [frame async for frame in sse.with_errors(events(b"one", error), sse.DONE, scope)]
    assert (frames[0], frames[-1]) == (b"one", sse.DONE)
    assert "broken" in json.loads(frames[1].removeprefix(b"data: "))["error"]
