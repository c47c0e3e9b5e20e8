"""When a process should end."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from dataclasses import dataclass, field

from runtime.draining import DrainingRuntime


@dataclass(frozen=True, slots=True)
class Orders:
    """What signals ask for."""

    stop: asyncio.Event = field(default_factory=asyncio.Event)
    """The first: end in order."""
    at_once: asyncio.Event = field(default_factory=asyncio.Event)
    """The second: wait for nothing."""

    def signalled(self) -> None:
        """Note one more signal."""
        (self.at_once if self.stop.is_set() else self.stop).set()


def orders_by_signal() -> Orders:
    """Return what SIGINT and SIGTERM set; call on the event loop."""
    orders = Orders()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, orders.signalled)
    return orders


def stop_when_orphaned(orders: Orders) -> None:
    """Order to stop when standard input ends: the parent holds its other end, so it ends even with a killed parent."""
    loop = asyncio.get_running_loop()

    def watch() -> None:
        while os.read(0, 1):  # not sys.stdin, whose lock would block the interpreter's end
            pass
        loop.call_soon_threadsafe(orders.stop.set)

    threading.Thread(target=watch, name="orphan", daemon=True).start()


async def drained(runtime: DrainingRuntime, orders: Orders, seconds: float) -> None:
    """Wait until the replies that run have ended, at most so many seconds, and not after the order to end at once."""
    waiting = [asyncio.ensure_future(each) for each in (runtime.drained(), orders.at_once.wait())]
    await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for each in waiting:
        each.cancel()
