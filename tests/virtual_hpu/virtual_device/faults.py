"""Faults on demand: the device dies, or its memory does not suffice once."""

from __future__ import annotations

from typing import Final, Literal

from virtual_device.memory import OutOfMemory

Fault = Literal["fatal", "memory"]


class DeviceFailure(RuntimeError):
    """As the driver tells that the card does not answer. Nothing is defined afterwards: the process must end."""

    def __init__(self) -> None:
        super().__init__(
            "[Rank:0] FATAL ERROR :: MODULE:PT_DEVICE synStatus=26 [Generic failure] Device not functional"
        )


class Faults:
    """What is to go wrong, and when."""

    def __init__(self) -> None:
        self._next: Fault | None = None
        self._left = 0
        self._dead = False

    def strike(self, fault: Fault, after: int = 0) -> None:
        """Let an operation of the device fail, this many operations from now."""
        self._next, self._left = fault, after

    def check(self) -> None:
        """Called at every operation, copy and replay."""
        if self._dead:
            raise DeviceFailure
        if self._next is None:
            return
        if self._left:
            self._left -= 1
            return
        fault, self._next = self._next, None
        if fault == "memory":
            raise OutOfMemory(size=2**30)
        self._dead = True
        raise DeviceFailure


FAULTS: Final = Faults()
strike = FAULTS.strike
