"""The worker process seen from the gateway: started, watched, restarted, stopped."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, Literal

from runtime.availability import Availability
from runtime.errors import StartupError, WorkerFailed
from runtime.knobs import KNOBS
from runtime.runtime import Readiness
from runtime.serve.monitor import Monitor

PROGRESS_SECONDS: Final = 5.0
STOP_SECONDS: Final = 10
LONGEST_PAUSE_SECONDS: Final = 30.0
SECRETS: Final = frozenset(knob.environment for knob in KNOBS if knob.secret)
"""What the worker, which reads what clients send, need not know."""

End = Literal["ended", "stuck"]
"""What became of a worker."""

log = logging.getLogger(__name__)


class Supervisor:
    """Keeps one worker running."""

    def __init__(
        self,
        arguments: Sequence[str],
        monitor: Monitor,
        availability: Availability,
        restarted: Callable[[End], None],
    ) -> None:
        """`arguments` is the worker's command line; `restarted` hears why each worker but the first is started."""
        self._arguments = arguments
        self._monitor = monitor
        self._availability = availability
        self._restarted = restarted
        self._process: asyncio.subprocess.Process | None = None

    async def run(self) -> None:
        """Start the worker and restart it whenever it dies or is stuck, until cancelled.

        Raises StartupError when it dies before it was ready for the first time; it has said why.
        """
        failures = 0
        was_ready = False
        try:
            while True:
                await self._start()
                end, status = await self._watched()
                if self._monitor.has_served:
                    failures, was_ready = 0, True
                elif not was_ready:
                    raise self._failure(status)
                await self._monitor.ended()
                failures += 1
                pause = min(2.0 ** (failures - 1), LONGEST_PAUSE_SECONDS)
                log.error("the worker ended with status %s; restarting it in %g s", status, pause)
                await asyncio.sleep(pause)
                self._restarted(end)
        finally:
            await self._stop()

    def kill(self) -> None:
        """End the worker at once, whatever it does."""
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):  # it has just ended
                self._process.kill()

    async def _start(self) -> None:
        # A session of its own, so that a Ctrl-C reaches the gateway alone, which then stops the worker in order.
        # Its standard input tells it when the gateway is gone.
        await self._monitor.started()
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "runtime", *self._arguments),
            stdin=asyncio.subprocess.PIPE,
            start_new_session=True,
            env={name: value for name, value in os.environ.items() if name not in SECRETS},
        )

    async def _watched(self) -> tuple[End, int]:
        """Wait until the worker ends, and kill it when it is stuck; return which, and its status."""
        assert self._process is not None
        ending = asyncio.ensure_future(self._process.wait())
        watching = asyncio.ensure_future(self._monitor.watch())
        telling = asyncio.ensure_future(self._tell_loading())
        try:
            await asyncio.wait({ending, watching}, return_when=asyncio.FIRST_COMPLETED)
            if ending.done():
                return "ended", ending.result()
            log.error("the worker is stuck: %s; killing it", watching.result())
            self.kill()
            return "stuck", await ending
        finally:
            for task in (ending, watching, telling):
                task.cancel()

    async def _tell_loading(self) -> None:
        """Show the operator that a worker which loads for long is alive; of its warm-up it tells itself."""
        started = time.monotonic()
        while not self._monitor.has_served:
            await asyncio.sleep(PROGRESS_SECONDS)
            if self._availability.health.readiness is Readiness.LOADING:
                log.info("still loading after %.0f s", time.monotonic() - started)

    def _failure(self, status: int) -> StartupError:
        if status < 0:
            return StartupError(f"the worker was killed by {signal.Signals(-status).name} while it loaded the model")
        return WorkerFailed("the worker could not start")

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
