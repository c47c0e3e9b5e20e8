"""What the pictures of a prompt took."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PictureCost:
    """What one picture came to before the backend saw it."""

    tokens: int
    """Of the prompt."""
    tiles: int
    seconds: Mapping[str, float]
    """By stage: fetch, decode, tile."""


class StageClock:
    """Measures stages that follow each other, each from the end of the one before."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._ended = clock()
        self.seconds: dict[str, float] = {}

    def end(self, stage: str) -> None:
        """Note that a stage ends now."""
        now = self._clock()
        self.seconds[stage] = now - self._ended
        self._ended = now
