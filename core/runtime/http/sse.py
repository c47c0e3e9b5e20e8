"""Server-sent events, framed as TGI does: one `data:` line of compact JSON and a blank line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

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
        self._frames = kept_alive(_with_errors(events, end, request.scope))
        super().__init__(self._frames, media_type="text/event-stream", headers={**HEADERS, **headers})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Generators that were never entered do not close what they read from, so the replies are closed by themselves.
        async with aclosing(self._replies), aclosing(self._frames):
            await super().__call__(scope, receive, send)


async def _with_errors(events: AsyncGenerator[bytes, None], end: bytes, scope: Scope) -> AsyncGenerator[bytes, None]:
    try:
        async with aclosing(events):
            async for frame in events:
                yield frame
    except Exception as error:  # the status is sent: all that is left is an event
        yield event(error_body(told(error, scope), scope))
    if end:
        yield end


async def kept_alive(
    events: AsyncGenerator[bytes, None], seconds: float = KEEP_ALIVE_SECONDS
) -> AsyncGenerator[bytes, None]:
    """Hand events on, and a comment after each stretch of silence, so that proxies keep the connection."""
    coming: asyncio.Task[bytes] | None = None
    try:
        while True:
            coming = coming or asyncio.ensure_future(anext(events))
            done, _ = await asyncio.wait({coming}, timeout=seconds)
            if not done:
                yield KEEP_ALIVE
                continue
            try:
                frame = coming.result()
            except StopAsyncIteration:
                return
            coming = None
            yield frame
    finally:
        if coming is not None and not coming.done():
            coming.cancel()
            with suppress(asyncio.CancelledError, StopAsyncIteration):
                await coming
        await events.aclose()
