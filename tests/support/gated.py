"""An arithmetic backend that the test stops and lets go on, so that no test depends on timing."""

from __future__ import annotations

import asyncio
import threading

from runtime.backend import DecodeBatch, DecodeOutput, Limits
from runtime.hookspecs import hookimpl
from runtime.local import LocalRuntime
from runtime.row import Row
from support.arithmetic import ArithmeticBackend
from support.serving import LIMITS, MODEL

ONE_ROW = Limits(rows=1, context=64, prefill_rows=1, prefill_tokens=48)


class GatedBackend(ArithmeticBackend):
    """Waits before each decode until the test lets it go on."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        super().__init__(MODEL.vocabulary, limits)
        self.gate = threading.Semaphore(0)
        self._decoding = threading.Event()

    @hookimpl
    def decode(self, batch: DecodeBatch) -> DecodeOutput:
        self._decoding.set()
        assert self.gate.acquire(timeout=30)
        return super().decode(batch)

    async def started(self) -> None:
        """Wait until the first decode waits at the gate."""
        assert await asyncio.to_thread(self._decoding.wait, 30)

    def count(self, hook: str) -> int:
        """Rows computed by a hook, over all its calls."""
        return sum(rows for name, rows in self.calls if name == hook)


def submissions(runtime: LocalRuntime) -> asyncio.Semaphore:
    """Can be acquired once for each request that the engine was given."""
    submit, given = runtime.engine.submit, asyncio.Semaphore(0)

    def told(row: Row) -> None:
        submit(row)
        given.release()

    runtime.engine.submit = told  # type: ignore[method-assign]
    return given
