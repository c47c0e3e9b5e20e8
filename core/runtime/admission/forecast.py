"""When a new request would get a slot and when it would be done: the queue played forward. Pure, without a clock.

Played by simple rules: requests start in the order given, each as soon as there is a slot and room for its tokens.
All running rows advance together by one token a step; a prefill takes its time from everybody. What shortens the real
wait (shorter prompts go first, prefixes are there already) and what lengthens it (`waiting_served_ratio` holds a
prefill back, rows are held by step operations, others come later and go first) is left out.

More work ahead never makes the forecast shorter: a request starts when those before it have started and what they hold
leaves room, and with more work both come later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from runtime.admission.pace import Pace


@dataclass(frozen=True, slots=True)
class Work:
    """What a request still needs."""

    prefill_tokens: float
    """Of its prompt, to be computed."""
    steps: float
    """Decode steps to its last token, as far as one can tell."""
    total_tokens: float
    """What it holds of the room from its start to its end."""


@dataclass(frozen=True, slots=True)
class Room:
    """What running requests share."""

    slots: int
    tokens: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """Seconds from now."""

    start: float
    """Until the request has a slot."""
    finish: float
    """Until its last token."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """The requests that a newcomer is behind."""

    room: Room
    running: Sequence[Work]
    waiting: Sequence[Work]
    """In order of service."""

    def without_slot(self) -> int:
        """Return how many would wait for others to end, a newcomer of the smallest size included.

        0 while nothing is served: those who wait then wait for something else.
        """
        if self.room.slots < 1:
            return 0
        slots, tokens = self._free
        line = [work.total_tokens for work in self.waiting] + [0.0]
        for started, wanted in enumerate(line):
            if slots < 1 or tokens < wanted:
                return len(line) - started
            slots, tokens = slots - 1, tokens - wanted
        return 0

    def forecast(self, newcomer: Work, pace: Pace) -> Forecast | None:
        """Play the queue forward; None while the server's pace is not known, or nothing is served."""
        token_seconds, step_seconds = pace.prefill_token_seconds, pace.decode_step_seconds
        if token_seconds is None or step_seconds is None or self.room.slots < 1:
            return None
        slots, tokens = self._free
        steps = 0.0
        prefilled = sum(work.prefill_tokens for work in self.running)
        ends = [(work.steps, work.total_tokens) for work in self.running]
        heapify(ends)
        for work in (*self.waiting, newcomer):
            while ends and (slots < 1 or tokens < work.total_tokens):
                ended, freed = heappop(ends)
                steps, slots, tokens = max(steps, ended), slots + 1, tokens + freed
            start = prefilled * token_seconds + steps * step_seconds
            prefilled += work.prefill_tokens
            slots, tokens = slots - 1, tokens - work.total_tokens
            heappush(ends, (steps + work.steps, work.total_tokens))
        return Forecast(start, prefilled * token_seconds + (steps + newcomer.steps) * step_seconds)

    @property
    def _free(self) -> tuple[int, float]:
        held = sum(work.total_tokens for work in self.running)
        return self.room.slots - len(self.running), self.room.tokens - held
