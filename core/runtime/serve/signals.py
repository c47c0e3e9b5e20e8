"""When a process should end."""

from __future__ import annotations

import asyncio
import os
import signal
import threading


def stop_on_signals() -> asyncio.Event:
    """Return an event that SIGINT and SIGTERM set; call on the event loop."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def stop_when_orphaned(stop: asyncio.Event) -> None:
    """Set `stop` when standard input ends: the parent holds its other end, so it ends even with a killed parent."""
    loop = asyncio.get_running_loop()

    def watch() -> None:
        while os.read(0, 1):  # not sys.stdin, whose lock would block the interpreter's end
            pass
        loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=watch, name="orphan", daemon=True).start()
