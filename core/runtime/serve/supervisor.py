"""The worker process seen from the gateway: started, watched, restarted, stopped."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from runtime.errors import NotReady, StartupError, WorkerFailed
from runtime.runtime import Readiness, Runtime

POLL_SECONDS: Final = 0.1
PROGRESS_SECONDS: Final = 5.0
STOP_SECONDS: Final = 10
LONGEST_PAUSE_SECONDS: Final = 30.0

log = logging.getLogger(__name__)


class Supervisor:
    """Keeps one worker running."""

    def __init__(
        self,
        arguments: Sequence[str],
        runtime: Runtime,
        on_change: Callable[[Readiness], Awaitable[None]],
    ) -> None:
        """`arguments` is the worker's command line, `runtime` the client of it."""
        self._arguments = arguments
        self._runtime = runtime
        self._on_change = on_change
        self._process: asyncio.subprocess.Process | None = None

    async def run(self) -> None:
        """Start the worker and restart it whenever it dies, until cancelled.

        Raises StartupError when it dies before it was ready for the first time; it has said why.
        """
        failures = 0
        was_ready = False
        try:
            while True:
                await self._start()
                if await self._became_ready():
                    failures, was_ready = 0, True
                    await self._on_change(Readiness.READY)
                    await self._ended()
                    await self._on_change(Readiness.LOADING)
                elif not was_ready:
                    raise self._failure(await self._ended())
                failures += 1
                pause = min(2.0 ** (failures - 1), LONGEST_PAUSE_SECONDS)
                log.error("the worker ended with status %s; restarting it in %g s", await self._ended(), pause)
                await asyncio.sleep(pause)
        finally:
            await self._stop()

    async def _start(self) -> None:
        # A session of its own, so that a Ctrl-C reaches the gateway alone, which then stops the worker in order.
        # Its standard input tells it when the gateway is gone.
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "runtime", *self._arguments, stdin=asyncio.subprocess.PIPE, start_new_session=True
        )

    async def _became_ready(self) -> bool:
        """Wait until the worker serves; False when it ends first."""
        assert self._process is not None
        started = told = time.monotonic()
        while self._process.returncode is None:
            readiness = await self._readiness()
            if readiness is Readiness.READY:
                return True
            if readiness is Readiness.WARMING:  # the worker itself tells how far it is
                told = time.monotonic()
            if time.monotonic() - told >= PROGRESS_SECONDS:
                told = time.monotonic()
                log.info("still loading after %.0f s", told - started)
            await asyncio.sleep(POLL_SECONDS)
        return False

    async def _readiness(self) -> Readiness:
        try:
            return (await self._runtime.health()).readiness
        except NotReady:  # it does not listen yet
            return Readiness.LOADING

    def _failure(self, status: int) -> StartupError:
        if status < 0:
            return StartupError(f"the worker was killed by {signal.Signals(-status).name} while it loaded the model")
        return WorkerFailed("the worker could not start")

    async def _ended(self) -> int:
        assert self._process is not None
        return await self._process.wait()

    async def _stop(self) -> None:
        if self._process is None or self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), STOP_SECONDS)
        except asyncio.TimeoutError:
            log.warning("the worker did not end within %g s; killing it", STOP_SECONDS)
            self._process.kill()
            await self._process.wait()
