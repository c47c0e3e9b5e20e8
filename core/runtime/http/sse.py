"""Server-sent events, framed as TGI does: one `data:` line of compact JSON and a blank line."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from runtime.http.error_bodies import error_body, told
from runtime.http.replies import StartedReplies

KEEP_ALIVE_SECONDS: Final = 15.0
KEEP_ALIVE: Final = b":\n\n"
DONE: Final = b"data: [DONE]\n\n"
HEADERS: Final = {"cache-control": "no-cache", "x-accel-buffering": "no"}
DOCUMENTATION: Final[dict[str, Any]] = {
    "content": {
        "text/event-stream": {
            "schema": {
                "type": "object",
                "properties": {"data": {"type": "string", "description": "One JSON object."}},
                "required": ["data"],
            }
        }
    },
}
"""For the documentation of a route that streams, beside its JSON."""


def event(data: dict[str, Any]) -> bytes:
    """Frame one event."""
    return b"data: " + json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


class EventStream(StreamingResponse):
    """Sends events as they come. However it ends, the replies they tell of are closed, which frees their rows."""

    def __init__(
        self,
        request: Request,
        replies: StartedReplies,
        events: AsyncGenerator[bytes, None],
        headers: Mapping[str, str],
        end: bytes = b"",
    ) -> None:
        """`end` is sent last, also after an error."""
        self._replies = replies
        self._frames = with_errors(events, end, request.scope)
        super().__init__(self._frames, media_type="text/event-stream", headers={**HEADERS, **headers})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        line = Line(send)
        filling = asyncio.ensure_future(line.fill())
        try:
            # Generators that were never entered do not close what they read from: the replies are closed by themselves.
            async with aclosing(self._replies), aclosing(self._frames):
                await super().__call__(scope, receive, line.send)
        finally:
            filling.cancel()
            await asyncio.gather(filling, return_exceptions=True)


class Line:
    """The way of a stream to its client, on which comments fill silences, so that proxies keep the connection.

    One task for the whole stream fills them, not one for each event.
    """

    def __init__(self, send: Send, seconds: float = KEEP_ALIVE_SECONDS) -> None:
        """A silence of so many seconds is filled."""
        self._send = send
        self._seconds = seconds
        self._used = time.monotonic()
        self._is_open = False
        self._lock = asyncio.Lock()
        """Held while something is sent, so that no comment comes behind the end: a slow reader makes both wait."""

    async def send(self, message: Message) -> None:
        """Send what the stream says."""
        async with self._lock:
            await self._send(message)
            self._is_open = message["type"] == "http.response.start" or message.get("more_body", False)
            self._used = time.monotonic()

    async def fill(self) -> None:
        """Send comments, after the stream's head and before its end, until this is cancelled."""
        while True:
            await asyncio.sleep(max(0.0, self._used + self._seconds - time.monotonic()))
            async with self._lock:
                if time.monotonic() < self._used + self._seconds:
                    continue
                if self._is_open:
                    await self._send({"type": "http.response.body", "body": KEEP_ALIVE, "more_body": True})
                self._used = time.monotonic()


async def with_errors(events: AsyncGenerator[bytes, None], end: bytes, scope: Scope) -> AsyncGenerator[bytes, None]:
    """Hand events on; an error becomes the last event but for `end`, as the status is sent already."""
    try:
        async with aclosing(events):
            async for frame in events:
                yield frame
    except Exception as error:
        yield event(error_body(told(error, scope), scope))
    if end:
        yield end
