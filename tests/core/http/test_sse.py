"""Server-sent events: framing, silence, and what closes what."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime.http import sse

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


class Source:
    """Events that come when the test sends them; None ends them."""

    def __init__(self) -> None:
        self.coming: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()
        self.closed = False

    async def events(self) -> AsyncGenerator[bytes, None]:
        try:
            while (event := await self.coming.get()) is not None:
                if isinstance(event, Exception):
                    raise event
                yield event
        finally:
            self.closed = True


async def test_silence_is_filled_with_comments() -> None:
    """Comments come until the event does, and the event is not lost."""
    source = Source()
    frames = sse.kept_alive(source.events(), seconds=0)
    assert [await anext(frames), await anext(frames)] == [b":\n\n", b":\n\n"]
    source.coming.put_nowait(b"one")
    while (frame := await anext(frames)) == sse.KEEP_ALIVE:
        pass
    assert frame == b"one"
    await frames.aclose()


async def test_events_that_are_there_come_without_comments() -> None:
    """In order, and the end of the events is the end of the frames."""
    source = Source()
    for event in (b"one", b"two", None):
        source.coming.put_nowait(event)
    assert [frame async for frame in sse.kept_alive(source.events(), seconds=60)] == [b"one", b"two"]
    assert source.closed


async def test_an_error_passes() -> None:
    """It ends the frames as it ended the events."""
    source = Source()
    source.coming.put_nowait(ValueError("broken"))
    with pytest.raises(ValueError, match="broken"):
        await anext(sse.kept_alive(source.events(), seconds=60))


async def test_closing_in_silence_closes_the_events() -> None:
    """Closed at a comment, while the next event is awaited."""
    source = Source()
    frames = sse.kept_alive(source.events(), seconds=0)
    await anext(frames)
    await frames.aclose()
    assert source.closed


async def test_closing_between_events_closes_the_events() -> None:
    """Closed after an event, while no other is awaited."""
    source = Source()
    source.coming.put_nowait(b"one")
    frames = sse.kept_alive(source.events(), seconds=60)
    assert await anext(frames) == b"one"
    await frames.aclose()
    assert source.closed


async def test_cancelling_closes_the_events() -> None:
    """Cancelled while it waits for the next event."""
    source = Source()
    waiting = asyncio.ensure_future(anext(sse.kept_alive(source.events(), seconds=60)))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert source.closed
