"""A bound on the size of request bodies."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime.http.error_bodies import error_answer
from runtime.http.errors import BodyTooLarge

LINGER_BYTES: Final = 2**26
LINGER_SECONDS: Final = 2.0
"""How much of a refused body is read, and how long, before the answer."""


class PayloadLimit:
    """Refuses a larger body with 413, by its declared length when there is one, else while it arrives."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        """`limit` is in bytes."""
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if _declared_length(scope) > self._limit:
            await _drain(receive)
            await self._refuse(scope, receive, send)
            return
        read, has_more = 0, True

        async def counted() -> Message:
            nonlocal read, has_more
            message = await receive()
            read += len(message.get("body", b""))
            has_more = message.get("more_body", False)
            if read > self._limit:
                raise _TooLarge
            return message

        try:
            await self._app(scope, counted, send)
        except _TooLarge:  # the routes read the whole body before they answer
            if has_more:
                await _drain(receive)
            await self._refuse(scope, receive, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = BodyTooLarge(f"the body is larger than {self._limit} bytes; the operator's limit is --payload-limit")
        await error_answer(error, scope, {"connection": "close"})(scope, receive, send)


async def _drain(receive: Receive) -> None:
    """Read and drop the rest of a body, as far as it is bearable.

    A connection that is closed with bytes unread is reset, and a client that still sends would miss the answer.
    """
    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(_read(receive), LINGER_SECONDS)


async def _read(receive: Receive) -> None:
    left = LINGER_BYTES
    while left > 0:
        message = await receive()
        if not message.get("more_body"):
            return
        left -= len(message["body"])


class _TooLarge(BaseException):
    """Passes the framework's handlers, which answer every Exception themselves."""


def _declared_length(scope: Scope) -> int:
    values = [value for name, value in scope["headers"] if name == b"content-length"]
    return int(values[0]) if values and values[0].isdigit() else 0
