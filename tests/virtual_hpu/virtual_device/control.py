"""Questions from a test to the device of another process, over a local socket.

VIRTUAL_HPU_CONTROL names the socket. The first process that uses the device answers there, in a thread of its own;
one that takes its place, because a worker was started again, takes the socket too.
"""

from __future__ import annotations

import os
import threading
from multiprocessing.connection import Connection, Listener
from pathlib import Path

from virtual_device.counters import snapshot
from virtual_device.faults import strike


def answer_if_asked() -> None:
    """Listen, if a test wants to ask; called when the device is acquired."""
    if address := os.environ.get("VIRTUAL_HPU_CONTROL"):
        Path(address).unlink(missing_ok=True)
        listener = Listener(address, family="AF_UNIX")
        threading.Thread(target=_answer, args=(listener,), name="virtual-hpu-control", daemon=True).start()


def _answer(listener: Listener) -> None:
    while True:
        with listener.accept() as connection:
            _converse(connection)


def _converse(connection: Connection) -> None:
    while True:
        try:
            question, *details = connection.recv()
        except EOFError:
            return
        match question:
            case "counters":
                connection.send(snapshot().totals())
            case "strike":
                strike(*details)
                connection.send(None)
