"""Whether the worker serves, as the gateway last saw it."""

from __future__ import annotations

import asyncio

from runtime.errors import NotReady
from runtime.runtime import Health, Readiness


def check_ready(health: Health) -> None:
    """Raise NotReady with the reason when new requests are not taken."""
    if health.readiness is not Readiness.READY:
        raise NotReady(f"the model is not served now: {health.message}", health.seconds_left)


class Availability:
    """The worker's health, kept by who watches it and read by all others without waiting; lives on one event loop."""

    def __init__(self) -> None:
        self.health = Health(Readiness.LOADING, "the worker is starting")
        self.changes = 0
        """How often something was told, so that who asks a worker can see that the answer is out of date."""
        self._changed = asyncio.Event()

    @property
    def is_ready(self) -> bool:
        """Whether new requests are taken."""
        return self.health.readiness is Readiness.READY

    def tell(self, health: Health) -> None:
        """Set what was seen; a server that stops stays so."""
        if self.health.readiness is not Readiness.STOPPING:
            self.health = health
            self.changes += 1
            self._changed.set()
            self._changed = asyncio.Event()

    def check_ready(self) -> None:
        """Raise NotReady with the reason when new requests are not taken."""
        check_ready(self.health)

    async def ready(self) -> None:
        """Wait until requests are taken; raises NotReady when they never will be."""
        while not self.is_ready:
            if self.health.readiness is Readiness.STOPPING:
                self.check_ready()
            await self._changed.wait()
