"""Requests -> the next device step. Pure: no tensors, no threads, no clock of its own.

Continuous batching: waiting requests join the running ones at a step boundary. Which of them, and when:

*Order.* That of `runtime.waiting`: overdue requests in order of arrival, then the rest, shortest first.

*Room.* A prefill takes the longest run from the front of the queue that has slots, keeps within both budgets and has
a shape. The first in line is never skipped: while it does not fit, nothing is admitted.

*Time.* When nothing runs, at once. Else after at least one decode step since the last prefill, so that a crowd of
newcomers slows the running streams by at most half, and only if one of these holds:

- the prefill takes at least floor(`waiting_served_ratio` x running rows) requests, or as many as any prefill may;
- the next in line does not fit into the same prefill, whichever rows end meanwhile;
- `max_waiting_tokens` decode steps have passed since the last prefill.

The first and the last are TGI's rule (router, `batching_task`); there the last prefill counts as a step.

*Parts.* A long prompt may be computed in parts (`hold`). Parts and decode steps of the other rows take turns, and
nobody is admitted before every prompt is whole.

*Nobody starves.* A request that fits and is first in line waits for at most max(1, `max_waiting_tokens`) decode steps.
An overdue request with k others before it starts with the (k + 1)th prefill from then at the latest, and after at most
(k + 1) x (L - 1) decode steps, where L is the longest reply any request may ask for, in tokens: nobody can come
before it any more, every prefill takes the first in line, and between two prefills no row lives longer than L - 1
steps. Where prompts are computed in up to p parts, the first of these waits is at most p - 1 steps longer, and each of
the k + 1 of the second too; only the first part counts as a prefill. Rows held by step operations are outside this
promise: what they hold is not there.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from runtime.budgets import ANY_SHAPE, Budgets, Demand, Shapes
from runtime.errors import ContextExceeded
from runtime.slots import SlotTable
from runtime.waiting import Waiting, WaitingQueue

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class PrefillStep(Generic[Key]):
    """Compute these prompts, each into its slot."""

    placed: tuple[tuple[Key, int], ...]
    """(request, slot) pairs of newcomers."""
    concat: Literal["backpressure", "wait_exceeded"] | None = None
    """Why running requests wait for it, by TGI's names: the last of the reasons under *Time*, or another of them."""
    continued: tuple[Key, ...] = ()
    """Requests whose prompts are computed in parts, for the next of them; no newcomers then."""


@dataclass(frozen=True, slots=True)
class DecodeStep(Generic[Key]):
    """Advance these requests by one token."""

    keys: tuple[Key, ...]


def _lowest(_key: object, free: Sequence[int]) -> int:
    return free[0]


class Scheduler(Generic[Key]):
    """The waiting and the running requests. Times are seconds on any clock that does not go back."""

    def __init__(
        self,
        slots: SlotTable,
        prefill_rows: int,
        budgets: Budgets,
        shapes: Shapes = ANY_SHAPE,
        place: Callable[[Key, Sequence[int]], int] = _lowest,
    ) -> None:
        """`place` chooses one of the free slots, ascending, for a request that starts."""
        self._slots = slots
        self._place = place
        self._prefill_rows = prefill_rows
        self._budgets = budgets
        self._shapes = shapes
        self._waiting: WaitingQueue[Key] = WaitingQueue(budgets.queue_threshold_ms / 1000)
        self._running: dict[Key, int] = {}
        self._partial: dict[Key, None] = {}
        """Those of the running whose prompts are not whole yet, in order."""
        self._decodes = 0
        """Since the last prefill."""

    @property
    def running_count(self) -> int:
        """Requests that hold a slot."""
        return len(self._running)

    def has_step(self, now: float) -> bool:
        """Tell whether `next_step` has something to do."""
        return bool(self._running) or bool(self._admissible(now)[0])

    def seconds_to_reorder(self, now: float) -> float | None:
        """Return the time after which `has_step` may change by itself; None when only `add` or a freed slot can."""
        return self._waiting.seconds_to_reorder(now)

    def add(self, key: Key, demand: Demand, arrived: float) -> None:
        """Queue a request; ContextExceeded when it would not fit into an empty server."""
        self._check_servable(demand)
        self._waiting.add(key, demand, arrived)

    def remove(self, key: Key) -> int | None:
        """Forget a finished or cancelled request; return the slot it held, which is free now.

        A request that is unknown, because it ended meanwhile, is no error.
        """
        slot = self._running.pop(key, None)
        self._partial.pop(key, None)
        if slot is None:
            self._waiting.remove(key)
        else:
            self._slots.release(slot)
        return slot

    def hold(self, key: Key) -> None:
        """Keep a running request out of decode steps: only a part of its prompt was computed."""
        if key in self._running:
            self._partial[key] = None

    def next_step(self, now: float) -> PrefillStep[Key] | DecodeStep[Key] | None:
        """Choose the next step; None when there is nothing to do before a request comes or a slot is freed."""
        if self._partial:
            return self._next_part()
        admissible, closed = self._admissible(now)
        if admissible and self._may_interrupt(len(admissible), closed):
            concat = self._concat
            self._decodes = 0
            return PrefillStep(tuple((request.key, self._start(request)) for request in admissible), concat)
        if self._running:
            self._decodes += 1
            return DecodeStep(tuple(self._running))
        return None

    def _next_part(self) -> PrefillStep[Key] | DecodeStep[Key]:
        """Continue prompts, in turns with the decode steps of the other rows."""
        whole = tuple(key for key in self._running if key not in self._partial)
        if whole and not self._decodes:
            self._decodes += 1
            return DecodeStep(whole)
        continued, self._partial = tuple(self._partial), {}
        self._decodes = 0
        return PrefillStep((), continued=continued)

    def _admissible(self, now: float) -> tuple[list[Waiting[Key]], bool]:
        """Return what the next prefill would take, and whether it is closed: the next in line can never share it."""
        line = self._waiting.first(min(self._prefill_rows, self._slots.free_count), now)
        fitting = longest = together = total = 0
        for rows, request in enumerate(line, start=1):
            longest = max(longest, request.demand.prefill_tokens)
            together += request.demand.prefill_tokens
            total += request.demand.total_tokens
            if total > self._slots.free_tokens:
                return line[:fitting], False
            if self._budgets.prefill_cost(rows, longest, together) > self._budgets.prefill_tokens:
                break
            if self._shapes.fits(rows, longest):
                fitting = rows
        return line[:fitting], fitting < len(line)

    def _may_interrupt(self, newcomers: int, closed: bool) -> bool:
        if not self._running:
            return True
        enough = min(int(self._budgets.waiting_served_ratio * len(self._running)), self._prefill_rows)
        return self._decodes > 0 and (newcomers >= enough or closed or self._wait_exceeded)

    @property
    def _wait_exceeded(self) -> bool:
        return self._decodes >= self._budgets.max_waiting_tokens

    @property
    def _concat(self) -> Literal["backpressure", "wait_exceeded"] | None:
        if not self._running:
            return None
        return "wait_exceeded" if self._wait_exceeded else "backpressure"

    def _start(self, request: Waiting[Key]) -> int:
        self._waiting.remove(request.key)
        chosen = self._place(request.key, self._slots.free)
        slot = self._running[request.key] = self._slots.lease(request.demand.total_tokens, chosen)
        return slot

    def _check_servable(self, demand: Demand) -> None:
        prompt, total = demand.prefill_tokens, demand.total_tokens
        if prompt > self._budgets.prefill_tokens:
            limit = f"one prefill takes {self._budgets.prefill_tokens}"
            raise ContextExceeded(f"the prompt takes {prompt} tokens and {limit}; shorten it or send fewer pictures")
        if total > self._slots.tokens:
            limit = f"all requests together {self._slots.tokens}"
            raise ContextExceeded(f"prompt and `max_new_tokens` take {total} tokens and {limit}; ask for fewer")
        if not self._shapes.fits(1, prompt):
            raise ContextExceeded(f"the prompt takes {prompt} tokens and no prefill is so long; shorten it")
