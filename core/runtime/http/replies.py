"""Running requests for a route: whole replies, or a stream whose first token is already there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.requests import Request

from runtime.http.hangup import unless_hung_up
from runtime.http.options import HttpOptions
from runtime.runtime import Completion, Delta, GenerateRequest, Info, PrefillToken, Runtime, Token, Tokenization

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Reply:
    """A finished reply."""

    tokens: tuple[Token, ...]
    completion: Completion
    prefill: tuple[PrefillToken, ...] = ()


class StartedReplies:
    """Replies that stream together, as (index of the request, event); the first event is there already.

    Closing it frees the rows, whether it was read or not.
    """

    def __init__(self, first: tuple[int, Delta], rest: AsyncGenerator[tuple[int, Delta], None]) -> None:
        self._first: tuple[int, Delta] | None = first
        self._rest = rest

    def __aiter__(self) -> AsyncIterator[tuple[int, Delta]]:
        return self

    async def __anext__(self) -> tuple[int, Delta]:
        first, self._first = self._first, None
        return await anext(self._rest) if first is None else first

    async def aclose(self) -> None:
        """End the streams."""
        await self._rest.aclose()


class Replies:
    """Runs the requests of all routes; a client that hangs up frees its rows."""

    def __init__(self, runtime: Runtime, options: HttpOptions) -> None:
        self.options = options
        self._runtime = runtime
        self._info: Info | None = None

    async def info(self) -> Info:
        """Return facts that do not change while the server runs: all but the batch size."""
        if self._info is None:
            self._info = await self._runtime.info()
        return self._info

    async def tokenize(self, request: GenerateRequest, http_request: Request) -> Tokenization:
        """Return a prompt's tokens, and what they would cost."""
        return await unless_hung_up(http_request, self._runtime.tokenize(request))

    async def whole(self, requests: Sequence[GenerateRequest], http_request: Request) -> tuple[Info, Sequence[Reply]]:
        """Wait for the last tokens; the replies have the order of the requests. One that fails ends them all."""
        return await unless_hung_up(http_request, self._with_info(_collected(self._runtime, requests)))

    async def started(self, requests: Sequence[GenerateRequest], http_request: Request) -> tuple[Info, StartedReplies]:
        """Wait for the first token of any, so that a request that fails has a real status."""
        deltas = _interleaved(self._runtime, requests)
        try:
            info, first = await unless_hung_up(http_request, self._with_info(_first(deltas)))
        except BaseException:
            await deltas.aclose()
            raise
        return info, StartedReplies(first, deltas)

    async def _with_info(self, work: Coroutine[Any, Any, Result]) -> tuple[Info, Result]:
        """Ask for the facts while the work is done, so that they cost no time."""
        asking = asyncio.ensure_future(self.info())
        try:
            result = await work
            return await asking, result
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)


async def _collected(runtime: Runtime, requests: Sequence[GenerateRequest]) -> Sequence[Reply]:
    deltas: list[list[Delta]] = [[] for _ in requests]
    async with aclosing(_interleaved(runtime, requests)) as coming:
        async for index, delta in coming:
            deltas[index].append(delta)
    return [_joined(each) for each in deltas]


def _joined(deltas: Sequence[Delta]) -> Reply:
    completion = deltas[-1].completion
    assert completion is not None
    tokens = tuple(token for delta in deltas for token in delta.tokens)
    return Reply(tokens, completion, tuple(token for delta in deltas for token in delta.prefill))


async def _first(deltas: AsyncGenerator[tuple[int, Delta], None]) -> tuple[int, Delta]:
    return await anext(deltas)


async def _interleaved(
    runtime: Runtime, requests: Sequence[GenerateRequest]
) -> AsyncGenerator[tuple[int, Delta], None]:
    """Yield the events of all replies as they come, each with the index of its request."""
    if len(requests) == 1:  # the common case needs no task for each event
        async with aclosing(_to_the_end(runtime, requests[0])) as deltas:
            async for delta in deltas:
                yield 0, delta
        return
    streams = [_to_the_end(runtime, request) for request in requests]
    coming: dict[asyncio.Task[Delta], int] = {}

    def expect(index: int) -> None:
        coming[asyncio.ensure_future(_next(streams[index]))] = index

    try:
        for index in range(len(streams)):
            expect(index)
        while coming:
            done, _ = await asyncio.wait(coming, return_when=asyncio.FIRST_COMPLETED)
            for task in sorted(done, key=lambda each: coming[each]):
                index = coming.pop(task)
                delta = task.result()
                if delta.completion is None:
                    expect(index)
                yield index, delta
    finally:
        for task in coming:
            task.cancel()
        await asyncio.gather(*coming, return_exceptions=True)
        for stream in streams:
            await stream.aclose()


async def _to_the_end(runtime: Runtime, request: GenerateRequest) -> AsyncGenerator[Delta, None]:
    """Yield the events of a reply up to its completion, which must come."""
    async with aclosing(runtime.generate(request)) as deltas:
        async for delta in deltas:
            yield delta
            if delta.completion is not None:
                return
    raise RuntimeError("a reply ended without its completion")


async def _next(stream: AsyncGenerator[Delta, None]) -> Delta:
    return await anext(stream)
