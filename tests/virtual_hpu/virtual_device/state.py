"""What the process does with its one device at the moment."""

from __future__ import annotations

import threading
from typing import Final

from virtual_device.counters import NOW, call_site
from virtual_device.faults import FAULTS
from virtual_device.reads import READS
from virtual_device.recipes import RECIPES
from virtual_device.tape import Tape


class State:
    """The capture that is under way, and what every operation of the device asks first."""

    def __init__(self) -> None:
        self.tape: Tape | None = None

    def check(self) -> None:
        """Refuse to work when the device failed, or when another thread captures."""
        FAULTS.check()
        if self.tape is not None and self.tape.thread != threading.get_ident():
            raise RuntimeError(f"the device is used by another thread during hpu graph capturing ({call_site()})")

    def refuse_in_capture(self, what: str) -> None:
        """Raise if a graph is being captured."""
        if self.tape is not None:
            raise RuntimeError(f"{what} is not supported during hpu graph capturing ({call_site()})")

    def host_read(self, kind: str) -> None:
        """Count a read by the host, which waits for all that was gathered."""
        self.refuse_in_capture(f"{kind}: device-to-host read")
        NOW.d2h_syncs[kind, call_site()] += 1
        RECIPES.cut()

    def host_waits(self, kind: str) -> None:
        """Count that the host waits for the device; what was under way has arrived then."""
        self.host_read(kind)
        READS.arrive()


STATE: Final = State()
