"""Running a request for a route: a whole reply, or a stream whose first token is already there."""

from __future__ import annotations

from collections.abc import AsyncGenerator
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


async def started_reply(
    runtime: Runtime, request: GenerateRequest, http_request: Request
) -> AsyncGenerator[Delta, None]:
    """Wait for the first token, so that a request that fails has a real status, and return all of the stream."""
    deltas = runtime.generate(request)
    try:
        first = await unless_hung_up(http_request, _first(deltas))
    except BaseException:
        await deltas.aclose()
        raise
    return _chained(first, deltas)


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


async def _chained(first: Delta, rest: AsyncGenerator[Delta, None]) -> AsyncGenerator[Delta, None]:
    async with aclosing(rest):
        yield first
        async for delta in rest:
            yield delta
