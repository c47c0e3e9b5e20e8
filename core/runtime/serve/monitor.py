"""Whether a worker serves: asked again and again, with a deadline, so that one which is dead or stuck is known soon."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

from runtime.availability import Availability
from runtime.errors import RuntimeServiceError
from runtime.runtime import Health, Readiness, Runtime

POLL_SECONDS: Final = 0.5
"""Between an answer and the next question; with the deadline the time after which a worker that hangs is known."""
STARTING_POLL_SECONDS: Final = 0.1
"""The same until the worker serves."""
ANSWER_SECONDS: Final = 1.0
"""Deadline of an answer."""

Changed = Callable[[Health], Awaitable[None]]

log = logging.getLogger(__name__)


class Monitor:
    """Watches one worker after another, and tells `Availability` what it sees; lives on one event loop."""

    def __init__(
        self,
        worker: Runtime,
        availability: Availability,
        step_timeout: float,
        on_change: Changed,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`worker` answers for itself; `on_change` hears of every other readiness.

        One step may take `step_timeout` seconds, and an answer may fail to come for as long, until the worker counts
        as stuck; with 0 it never does.
        """
        self._worker = worker
        self._availability = availability
        self._step_timeout = step_timeout
        self._on_change = on_change
        self._clock = clock
        self._told = availability.health.readiness
        self._answered: float | None = None
        """When a worker that serves last answered; None before it served."""

    @property
    def has_served(self) -> bool:
        """Whether this worker was ready."""
        return self._answered is not None

    async def started(self) -> None:
        """Forget the worker before: another one starts."""
        self._answered = None
        await self._tell(Health(Readiness.LOADING, "the worker is starting"))

    async def ended(self) -> None:
        """Tell that there is no worker now."""
        await self._tell(Health(Readiness.LOADING, "the worker ended; it is being restarted"))

    async def stopping(self) -> None:
        """Tell that no new requests are taken any more, for good."""
        await self._tell(Health(Readiness.STOPPING, "the server is stopping"))

    async def watch(self) -> str:
        """Look until the worker is stuck, and return in what way."""
        while True:
            if reason := await self.look():
                return reason
            await asyncio.sleep(POLL_SECONDS if self.has_served else STARTING_POLL_SECONDS)

    async def look(self) -> str:
        """Ask once and tell what was seen; return in what way the worker is stuck, or nothing."""
        known = self._availability.changes
        health = await self._answer()
        if health is None:
            return await self._silent()
        if self._availability.changes != known:  # a reply broke off meanwhile: the answer may be of before
            return ""
        if self.has_served or health.readiness is Readiness.READY:
            self._answered = self._clock()
        elif health.readiness is Readiness.FAILED:  # before it served it ends, and says why itself
            return ""
        if self.has_served and self._is_too_long(health.busy_seconds):
            reason = f"the device is in the same step for {health.busy_seconds:.0f} s"
            await self._tell(Health(Readiness.FAILED, reason))
            return reason
        await self._tell(health)
        return ""

    async def _answer(self) -> Health | None:
        """Return what the worker says of itself; None when it does not in time."""
        asking = asyncio.ensure_future(self._worker.health())
        try:
            # Not wait_for, which before Python 3.12 may lose a cancellation that comes with the answer.
            await asyncio.wait({asking}, timeout=ANSWER_SECONDS)
            return asking.result() if asking.done() else None
        except RuntimeServiceError:
            return None
        finally:
            asking.cancel()

    async def _silent(self) -> str:
        """Judge a worker that does not answer: one that starts may not listen yet, or be too busy for it."""
        if self._answered is None:
            return ""
        seconds = self._clock() - self._answered
        health = Health(Readiness.FAILED, "the worker does not answer")
        await self._tell(health)
        return f"{health.message} for {seconds:.0f} s" if self._is_too_long(seconds) else ""

    def _is_too_long(self, seconds: float) -> bool:
        return 0 < self._step_timeout < seconds

    async def _tell(self, health: Health) -> None:
        self._availability.tell(health)
        health = self._availability.health  # a server that stops stays so
        if health.readiness is not self._told:
            self._told = health.readiness
            await self._on_change(health)
