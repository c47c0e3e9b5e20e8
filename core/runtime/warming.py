"""How far a warm-up is, and when it will be done. Pure but for the clock it is given."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from runtime.backend import DecodeShape, PrefillShape, Shape, VisionShape, WarmupProgress

LATEST: Final = 10
"""Shapes whose mean time each that is left is taken to need: the latest, for the largest are warmed first."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A moment of a warm-up; as text what operators are told of it."""

    done: int
    total: int
    seconds: float = 0.0
    """Since it began."""
    last: Shape | None = None
    """The last shape that was warmed."""
    seconds_left: float | None = None
    """None before the first was."""

    @property
    def place(self) -> str:
        """How far it is, in words."""
        last = "" if self.last is None else f", {shape_text(self.last)} done"
        return f"{self.done} of {self.total} shapes{last}"

    def __str__(self) -> str:
        return f"{self.place}, about {_rounded(self.seconds_left)} left" if self.seconds_left else self.place


class Warming:
    """Follows a warm-up by what its backend tells, shape by shape. A backend may begin again from the first shape."""

    def __init__(self, total: int, clock: Callable[[], float]) -> None:
        """`clock` gives seconds and does not go back."""
        self._clock = clock
        self._began = self._before = clock()
        self._latest: deque[float] = deque(maxlen=LATEST)
        self.stage = Stage(0, total)

    def advance(self, progress: WarmupProgress) -> Stage:
        """Return the stage after one more shape."""
        now = self._clock()
        self._latest.append(now - self._before)
        self._before = now
        mean = sum(self._latest) / len(self._latest)
        left = mean * (progress.total - progress.done)
        self.stage = Stage(progress.done, progress.total, now - self._began, progress.shape, left)
        return self.stage


def shape_text(shape: Shape) -> str:
    """Return a shape in the words of `runtime plan`: rows x tokens."""
    match shape:
        case PrefillShape(rows, length, cached):
            return f"prefill {rows} x {length}" + (f" after {cached}" if cached else "")
        case DecodeShape(rows, context):
            return f"decode {rows} x {context}"
        case VisionShape(tiles):
            return f"picture of {tiles} tiles"


def _rounded(seconds: float) -> str:
    if seconds < 90:
        return f"{math.ceil(seconds)} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
