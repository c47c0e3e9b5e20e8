"""A `Runtime` that can be drained: it refuses what is new and waits for the replies that run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from runtime.availability import Availability
from runtime.backend import WarmupProgress
from runtime.runtime import (
    CachedBatch,
    Delta,
    GenerateRequest,
    Health,
    Info,
    Readiness,
    Runtime,
    StepRequest,
    StepResult,
    Tokenization,
)


class DrainingRuntime:
    """Hands everything on, until the server stops: then only what was begun. Lives on one event loop."""

    def __init__(self, runtime: Runtime, availability: Availability) -> None:
        """`availability` tells when the server stops."""
        self._runtime = runtime
        self._availability = availability
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def drained(self) -> None:
        """Wait until no reply runs."""
        await self._idle.wait()

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Delta, None]:
        """Stream a reply; NotReady when the server stops."""
        self._check_going_on()
        self._running += 1
        self._idle.clear()
        try:
            async with aclosing(self._runtime.generate(request)) as deltas:
                async for delta in deltas:
                    yield delta
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()

    async def tokenize(self, request: GenerateRequest) -> Tokenization:
        """Hand on."""
        return await self._runtime.tokenize(request)

    async def info(self) -> Info:
        """Hand on."""
        return await self._runtime.info()

    async def health(self) -> Health:
        """Tell the runtime's health, or that the server stops."""
        return self._availability.health if self._is_stopping else await self._runtime.health()

    async def metrics(self) -> bytes:
        """Hand on."""
        return await self._runtime.metrics()

    def warmup(self) -> AsyncGenerator[WarmupProgress, None]:
        """Hand on."""
        return self._runtime.warmup()

    async def prefill(self, requests: Sequence[StepRequest]) -> StepResult:
        """Lease rows; NotReady when the server stops."""
        self._check_going_on()
        return await self._runtime.prefill(requests)

    async def concatenate(self, batch_ids: Sequence[int]) -> CachedBatch:
        """Hand on."""
        return await self._runtime.concatenate(batch_ids)

    async def decode(self, batch_ids: Sequence[int]) -> StepResult:
        """Hand on."""
        return await self._runtime.decode(batch_ids)

    async def filter(self, batch_id: int, request_ids: Sequence[int]) -> CachedBatch:
        """Hand on."""
        return await self._runtime.filter(batch_id, request_ids)

    async def release(self, batch_id: int | None) -> None:
        """Hand on."""
        await self._runtime.release(batch_id)

    async def aclose(self) -> None:
        """Hand on."""
        await self._runtime.aclose()

    @property
    def _is_stopping(self) -> bool:
        return self._availability.health.readiness is Readiness.STOPPING

    def _check_going_on(self) -> None:
        if self._is_stopping:
            self._availability.check_ready()
