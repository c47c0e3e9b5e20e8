"""Who may come in: the bounds on what is in the server, and what a newcomer may be told of its wait.

A request is refused at the door, before its prompt is prepared and its pictures are fetched. Nothing is refused for a
forecast unless the operator (`--max-queue-seconds`) or the caller (a deadline) has set a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

from runtime.admission.forecast import Backlog, Room, Work
from runtime.admission.pace import Pace
from runtime.budgets import Demand
from runtime.errors import Overloaded
from runtime.row import Outcome, Row
from runtime.runtime import Delta, FinishReason, GenerateRequest
from runtime.telemetry.metrics import Metrics

FAR_BEYOND: Final = 2.0
"""A deadline is missed for certain when the forecast is so many times as long: forecasts may be wrong by as much."""
RESUMED: Final = 2
"""Times as many as others may there be of resumed requests: they had been let in, by a worker that is gone."""


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """What the operator allows; None for no bound."""

    concurrent: int
    """Requests in the server: `--max-concurrent-requests`."""
    queue: int | None = None
    """Requests that wait for a slot: `--max-queue`."""
    queue_seconds: float | None = None
    """Seconds that one may have to wait for its slot: `--max-queue-seconds`."""


@dataclass(slots=True, eq=False)
class Place:
    """What is known of one request in the server."""

    row: Row | None = None
    """None while it is being prepared."""


class Admission:
    """Counts what is in the server and knows its pace. Lives on one event loop, but for `stepped`."""

    def __init__(self, limits: AdmissionLimits, room: Callable[[], Room], metrics: Metrics) -> None:
        """`room` tells what running requests share; no slots while nothing is served."""
        self._limits = limits
        self._room = room
        self._metrics = metrics
        self._pace = Pace()
        self._admitted = 0
        self._places: dict[Place, None] = {}
        """In order of arrival."""
        self._last_step = float("-inf")
        metrics.predicted_wait.set_function(lambda: self._seconds_to_slot() or 0.0)

    @contextmanager
    def counted(self, count: int = 1, resumed: bool = False) -> Iterator[None]:
        """Count requests in the server, so that every queue behind is bounded; raises Overloaded."""
        limit = self._limits.concurrent * (RESUMED if resumed else 1)
        if self._admitted + count > limit:
            text = f"the server works on {self._admitted} of at most {limit} requests; try again later"
            raise self._refusal("concurrency", text, self._seconds_to_slot())
        self._admitted += count
        try:
            yield
        finally:
            self._admitted -= count

    @contextmanager
    def place(self, request: GenerateRequest) -> Iterator[Place]:
        """Give a request its place in the server; raises Overloaded when there is none for it."""
        resumed = request.resumption is not None
        with self.counted(resumed=resumed):
            if not resumed:
                self._check_queue()
                shortest = Demand(0, request.stopping.max_new_tokens or 1)
                self._check_deadline(shortest, request.deadline, self._backlog())
            place = Place()
            self._places[place] = None
            try:
                yield place
            finally:
                del self._places[place]

    def prepared(self, place: Place, row: Row, request: GenerateRequest) -> None:
        """Note what a request came to; raises Overloaded when it would end too late."""
        if request.resumption is None:
            self._check_deadline(row.demand, request.deadline, self._submitted())
        place.row = row

    def stepped(self, outcomes: Sequence[tuple[Row, Outcome]], now: float) -> None:
        """Learn from a step that ended `now`, on the monotonic clock; called on the device thread.

        It began when the one before ended or, if nothing ran then, when its prompts got their slots.
        """
        last, self._last_step = self._last_step, now
        told = [(row, outcome) for row, outcome in outcomes if isinstance(outcome, Delta)]
        if not told:
            return
        seconds = now - max(last, min(row.started for row, _ in told))
        newcomers = [row for row, _ in told if len(row.generated) == 1]
        if newcomers:
            self._pace.prefilled(sum(_computed(row) for row in newcomers), seconds)
        else:
            self._pace.decoded(seconds)
        for row, outcome in told:
            if outcome.completion is not None:
                by_itself = outcome.completion.finish_reason is not FinishReason.LENGTH
                self._pace.ended(len(row.prompt), len(row.generated), by_itself)

    def _check_queue(self) -> None:
        most, longest = self._limits.queue, self._limits.queue_seconds
        if most is not None and (waiting := self._backlog().without_slot()) > most:
            text = f"the server is full and {waiting - 1} of at most {most} requests wait; try again later"
            raise self._refusal("queue_full", text, self._seconds_to_slot())
        if longest is not None and (wait := self._seconds_to_slot() or 0.0) > longest:
            text = f"the wait would be about {_about(wait)}, and the server takes no request that waits longer than"
            raise self._refusal("predicted_wait", f"{text} {_about(longest)}; try again later", wait - longest)

    def _check_deadline(self, demand: Demand, deadline: float | None, backlog: Backlog) -> None:
        """Refuse what would end far beyond its deadline, a time of the monotonic clock."""
        if deadline is None:
            return
        left = max(0.0, deadline - time.monotonic())
        forecast = backlog.forecast(self._work(demand), self._pace)
        if forecast is not None and forecast.finish > FAR_BEYOND * left:
            text = f"the reply would take about {_about(forecast.finish)}, and the deadline is in {_about(left)}"
            hint = "allow more time, ask for fewer tokens or try again later"
            raise self._refusal("deadline", f"{text}; {hint}", forecast.finish - left)

    def _refusal(self, reason: str, text: str, retry_after: float | None) -> Overloaded:
        self._metrics.requests_refused.labels(reason).inc()
        return Overloaded(text, retry_after)

    def _seconds_to_slot(self) -> float | None:
        """Return how long a request of the smallest size would wait."""
        forecast = self._backlog().forecast(Work(0, 0, 0), self._pace)
        return None if forecast is None else forecast.start

    def _backlog(self) -> Backlog:
        """Return all work in the server; of what is being prepared the size is guessed."""
        submitted = self._submitted()
        prompt, reply = self._pace.usual_tokens
        preparing = len(self._places) - len(submitted.running) - len(submitted.waiting)
        guessed = [Work(prompt, reply, prompt + reply)] * preparing
        return replace(submitted, waiting=[*submitted.waiting, *guessed])

    def _submitted(self) -> Backlog:
        """Return the work of those in the engine."""
        rows = [place.row for place in self._places if place.row is not None]
        running = [self._work(row.demand, len(row.generated)) for row in rows if row.slot >= 0]
        waiting = [self._work(row.demand) for row in rows if row.slot < 0]
        return Backlog(self._room(), running, waiting)

    def _work(self, demand: Demand, generated: int = 0) -> Work:
        longest = demand.total_tokens - demand.prefill_tokens - max(1, generated)  # the first comes with the prefill
        prefill_tokens = 0 if generated else demand.prefill_tokens
        return Work(prefill_tokens, self._pace.reply_tokens(longest), demand.total_tokens)


def _computed(row: Row) -> int:
    """Return the tokens of the prompt that its last step saw to; those that the slot held already took no time."""
    start: int = row.part.start
    stop: int = row.part.stop
    return stop if start == row.cached else stop - start


def _about(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
