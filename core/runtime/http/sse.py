"""Server-sent events, framed as TGI does: one `data:` line of compact JSON and a blank line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from typing import Any, Final

from starlette.responses import StreamingResponse

KEEP_ALIVE_SECONDS: Final = 15.0
KEEP_ALIVE: Final = b":\n\n"
DONE: Final = b"data: [DONE]\n\n"
HEADERS: Final = {"cache-control": "no-cache", "x-accel-buffering": "no"}


def event(data: dict[str, Any]) -> bytes:
    """Frame one event."""
    return b"data: " + json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def response(events: AsyncGenerator[bytes, None]) -> StreamingResponse:
    """Send events as they come; the generator is closed when the client hangs up."""
    return StreamingResponse(kept_alive(events), media_type="text/event-stream", headers=HEADERS)


async def kept_alive(events: AsyncGenerator[bytes, None], seconds: float = KEEP_ALIVE_SECONDS) -> AsyncIterator[bytes]:
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
