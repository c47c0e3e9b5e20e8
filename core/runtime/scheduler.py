"""Requests -> the next device step. Pure: no tensors, no threads, no clock.

Continuous batching: a waiting request joins the running ones at a step boundary, as soon as a slot is free, first
come first served. After each prefill the running rows get one decode step before the next prefill, so that a crowd
of newcomers slows the running streams by at most half.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from runtime.slots import SlotTable

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class PrefillStep(Generic[Key]):
    """Compute these prompts, each into its slot."""

    placed: tuple[tuple[Key, int], ...]
    """(request, slot) pairs."""


@dataclass(frozen=True, slots=True)
class DecodeStep(Generic[Key]):
    """Advance these requests by one token."""

    keys: tuple[Key, ...]


class Scheduler(Generic[Key]):
    """The waiting and the running requests."""

    def __init__(self, slots: SlotTable, prefill_rows: int) -> None:
        self._slots = slots
        self._prefill_rows = prefill_rows
        self._waiting: deque[Key] = deque()
        self._running: dict[Key, int] = {}
        self._just_prefilled = False

    @property
    def has_step(self) -> bool:
        """Whether `next_step` has something to do now."""
        return bool(self._running or self._can_admit)

    def add(self, key: Key) -> None:
        """Queue a request."""
        self._waiting.append(key)

    def remove(self, key: Key) -> int | None:
        """Forget a finished or cancelled request; return the slot it held, which is free now.

        A request that is unknown, because it ended meanwhile, is no error.
        """
        slot = self._running.pop(key, None)
        if slot is not None:
            self._slots.release(slot)
        elif key in self._waiting:
            self._waiting.remove(key)
        return slot

    def next_step(self) -> PrefillStep[Key] | DecodeStep[Key] | None:
        """Choose the next step; None when there is nothing to do before a request comes or a slot is freed."""
        if self._can_admit and not (self._just_prefilled and self._running):
            self._just_prefilled = True
            return PrefillStep(self._admit())
        self._just_prefilled = False
        return DecodeStep(tuple(self._running)) if self._running else None

    @property
    def _can_admit(self) -> bool:
        return bool(self._waiting and self._slots.free_count)

    def _admit(self) -> tuple[tuple[Key, int], ...]:
        placed: list[tuple[Key, int]] = []
        while self._can_admit and len(placed) < self._prefill_rows:
            key = self._waiting.popleft()
            self._running[key] = self._slots.lease()
            placed.append((key, self._running[key]))
        return tuple(placed)
