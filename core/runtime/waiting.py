"""The requests that wait for a slot, in order of service."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from itertools import filterfalse, islice, takewhile
from typing import Generic, TypeVar

from runtime.budgets import Demand

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Waiting(Generic[Key]):
    """One request in the queue."""

    key: Key
    demand: Demand
    arrived: float
    """Seconds, on the clock that `now` is read from."""
    ticket: int
    """Its number in the order of arrival."""

    @property
    def rank(self) -> tuple[int, int, int]:
        """The shortest prompt first, then the least in total, then the oldest."""
        return self.demand.prefill_tokens, self.demand.total_tokens, self.ticket


class WaitingQueue(Generic[Key]):
    """Overdue requests first, in order of arrival; then the rest, shortest first.

    A request is overdue once it is `threshold` seconds old; with 0 all are, and the queue is first come, first served.
    The rule is TGI-Gaudi's `QUEUE_THRESHOLD_MS`, but for the order among the overdue. Adding and removing take
    O(log n) comparisons and a move within one short list; nothing is scanned.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._tickets = 0
        self._by_arrival: OrderedDict[Key, Waiting[Key]] = OrderedDict()
        self._by_rank: list[Waiting[Key]] = []

    def __len__(self) -> int:
        return len(self._by_arrival)

    def add(self, key: Key, demand: Demand, arrived: float) -> None:
        """Append a request; `arrived` never goes back from one call to the next."""
        request = Waiting(key, demand, arrived, self._tickets)
        self._tickets += 1
        self._by_arrival[key] = request
        insort(self._by_rank, request, key=_rank)

    def remove(self, key: Key) -> None:
        """Take a request out, wherever it stands; one that does not wait is no error."""
        request = self._by_arrival.pop(key, None)
        if request is not None:
            del self._by_rank[bisect_left(self._by_rank, request.rank, key=_rank)]

    def first(self, count: int, now: float) -> list[Waiting[Key]]:
        """Return the first `count` in order of service, or all when there are fewer."""

        def is_overdue(request: Waiting[Key]) -> bool:
            return now - request.arrived >= self._threshold

        overdue = list(islice(takewhile(is_overdue, self._by_arrival.values()), count))
        return overdue + list(islice(filterfalse(is_overdue, self._by_rank), count - len(overdue)))

    def seconds_to_reorder(self, now: float) -> float | None:
        """Return the time after which another request may come first; None when only a newcomer or a leaver can."""
        if not self._by_arrival:
            return None
        oldest = next(iter(self._by_arrival.values()))
        seconds = self._threshold - (now - oldest.arrived)
        return seconds if seconds > 0 else None


def _rank(request: Waiting[Key]) -> tuple[int, int, int]:
    return request.rank
