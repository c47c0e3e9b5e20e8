"""Running a request for a route: a whole reply, or a stream whose first token is already there."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass

from starlette.requests import Request

from runtime.http.hangup import unless_hung_up
from runtime.runtime import Completion, Delta, GenerateRequest, Runtime, Token


@dataclass(frozen=True, slots=True)
class Reply:
    """A finished reply."""

    tokens: tuple[Token, ...]
    completion: Completion


async def whole_reply(runtime: Runtime, request: GenerateRequest, http_request: Request) -> Reply:
    """Wait for the last token; a client that hangs up frees the row."""
    return await unless_hung_up(http_request, _collected(runtime, request))


class StartedReply:
    """A stream whose first event is there already; closing it frees the row, whether it was read or not."""

    def __init__(self, first: Delta, rest: AsyncGenerator[Delta, None]) -> None:
        self._first: Delta | None = first
        self._rest = rest

    def __aiter__(self) -> AsyncIterator[Delta]:
        return self

    async def __anext__(self) -> Delta:
        first, self._first = self._first, None
        return await anext(self._rest) if first is None else first

    async def aclose(self) -> None:
        """End the stream."""
        await self._rest.aclose()


async def started_reply(runtime: Runtime, request: GenerateRequest, http_request: Request) -> StartedReply:
    """Wait for the first token, so that a request that fails has a real status."""
    deltas = runtime.generate(request)
    try:
        first = await unless_hung_up(http_request, _first(deltas))
    except BaseException:
        await deltas.aclose()
        raise
    return StartedReply(first, deltas)


async def _collected(runtime: Runtime, request: GenerateRequest) -> Reply:
    tokens: list[Token] = []
    async with aclosing(runtime.generate(request)) as deltas:
        async for delta in deltas:
            tokens.extend(delta.tokens)
            if delta.completion is not None:
                return Reply(tuple(tokens), delta.completion)
    raise RuntimeError("a reply ended without its completion")


async def _first(deltas: AsyncGenerator[Delta, None]) -> Delta:
    return await anext(deltas)
