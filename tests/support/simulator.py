"""A server without a device: a scheduler, jobs and a fake clock. Every promise of the scheduler is checked each step.

The simulator keeps its own account of what waits, runs and is held, by full scans over plain dictionaries, and takes
nothing from the scheduler but its steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from runtime.budgets import ANY_SHAPE, Budgets, Demand, Shapes
from runtime.scheduler import DecodeStep, PrefillStep, Scheduler
from runtime.slots import SlotTable

DECODE_SECONDS = 0.03
PREFILL_SECONDS_PER_TOKEN = 0.01


@dataclass(frozen=True)
class Job:
    """One request and what becomes of it."""

    key: int
    arrives: float
    prompt: int
    longest_reply: int
    """What the request may ask for."""
    reply: int
    """Tokens after which it ends, 1 to `longest_reply`."""
    cancelled: float | None = None
    """When its client hangs up, whatever it does then."""
    parts: int = 1
    """In how many its prompt is computed."""

    @property
    def demand(self) -> Demand:
        return Demand(self.prompt, self.prompt + self.longest_reply)


@dataclass(frozen=True)
class Lease:
    """A row that a step operation holds for a while, when there is room for it at `start`."""

    start: float
    end: float
    tokens: int


@dataclass
class Mark:
    """What the scheduler had done when a request was first seen to be overdue."""

    before: int
    """Overdue requests in front of it."""
    prefills: int
    decodes: int


@dataclass
class Simulator:
    """Runs jobs to their end; AssertionError when the scheduler breaks a promise."""

    jobs: Sequence[Job]
    rows: int
    prefill_rows: int
    budgets: Budgets
    shapes: Shapes = ANY_SHAPE
    leases: Sequence[Lease] = ()
    now: float = 0.0
    prefills: list[tuple[int, ...]] = field(default_factory=list)
    """The keys of each."""
    decodes: int = 0
    started: dict[int, float] = field(default_factory=dict)
    """When each job got its slot."""
    finished: list[int] = field(default_factory=list)
    cancelled: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.table = SlotTable(self.rows, self.budgets.total_tokens)
        self.scheduler: Scheduler[int] = Scheduler(self.table, self.prefill_rows, self.budgets, self.shapes)
        self.waiting: dict[int, Job] = {}
        self.running: dict[int, Job] = {}
        self.slots: dict[int, int] = {}
        self.generated: dict[int, int] = {}
        self.parts_left: dict[int, int] = {}
        """Of running jobs whose prompts are not whole."""
        self.held: dict[int, Lease] = {}
        """By slot."""
        self.marks: dict[int, Mark] = {}
        self.decodes_since_prefill = 0
        self._arrivals = sorted(self.jobs, key=lambda job: job.arrives)
        self._longest_reply = max((job.longest_reply for job in self.jobs), default=1)
        self._most_parts = max((job.parts for job in self.jobs), default=1)
        self._pending_leases = sorted(self.leases, key=lambda lease: lease.start)

    def run(self) -> None:
        """Serve every job."""
        while True:
            self._let_things_happen()
            self._mark_overdue()
            wakes = self.scheduler.seconds_to_reorder(self.now)
            has_step = self.scheduler.has_step(self.now)
            match self.scheduler.next_step(self.now):
                case PrefillStep((), continued=continued):
                    self._continue(continued)
                case PrefillStep(placed, continued=()):
                    self._prefill(placed)
                case DecodeStep(keys):
                    self._decode(keys)
                case None:
                    assert not has_step
                    assert not self.running
                    assert not self._fitting()
                    if not self._sleep(wakes):
                        break
                    continue
            assert has_step
            self._check_account()
        assert not self.waiting, "the queue sleeps although nothing will happen any more"
        assert self.table.free_tokens == self.budgets.total_tokens
        assert self.table.free_count == self.rows

    def line(self) -> list[Job]:
        """The waiting in the order that `runtime.waiting` promises, sorted from nothing."""
        return sorted(
            self.waiting.values(),
            key=lambda job: (
                (0, job.arrives, job.key)
                if self._overdue(job)
                else (1, job.prompt, job.prompt + job.longest_reply, job.arrives, job.key)
            ),
        )

    def _let_things_happen(self) -> None:
        """Finish leases, arrivals and hang-ups whose time has come, between two steps as in the engine."""
        for slot, lease in list(self.held.items()):
            if lease.end <= self.now:
                self.table.release(slot)
                del self.held[slot]
        while self._pending_leases and self._pending_leases[0].start <= self.now:
            lease = self._pending_leases.pop(0)
            if self.table.free_count and self.table.free_tokens >= lease.tokens:
                slot = self.table.lease(lease.tokens)
                assert slot not in self.slots.values()
                self.held[slot] = lease
        while self._arrivals and self._arrivals[0].arrives <= self.now:
            job = self._arrivals.pop(0)
            self.waiting[job.key] = job
            self.scheduler.add(job.key, job.demand, job.arrives)
        for job in [*self.waiting.values(), *self.running.values()]:
            if job.cancelled is not None and job.cancelled <= self.now:
                self._remove(job)
                self.cancelled.append(job.key)
        self._check_account()

    def _prefill(self, placed: Sequence[tuple[int, int]]) -> None:
        keys = [key for key, _ in placed]
        jobs = [self.waiting[key] for key in keys]
        assert keys == [job.key for job in self.line()[: len(keys)]], "out of order"
        assert 1 <= len(keys) <= self.prefill_rows
        assert self._cost(jobs) <= self.budgets.prefill_tokens
        assert self.shapes.fits(len(jobs), max(job.prompt for job in jobs))
        assert not self.parts_left, "a prompt is not whole yet"
        assert not self.running or self.decodes_since_prefill, "running rows are owed a step"
        for key in keys:
            if key in self.marks:
                self._check_bound(self.marks.pop(key))
        self.prefills.append(tuple(keys))
        self.decodes_since_prefill = 0
        for key, slot in placed:
            assert slot not in self.slots.values()
            assert slot not in self.held
            self.running[key] = self.waiting.pop(key)
            self.slots[key] = slot
            self.generated[key] = 0
            self.parts_left[key] = self.running[key].parts
            self.started[key] = self.now
        self.now += PREFILL_SECONDS_PER_TOKEN * self._cost(jobs)
        self._compute_parts(jobs)

    def _continue(self, keys: Sequence[int]) -> None:
        assert list(keys) == list(self.parts_left), "every prompt goes on that is not whole, and no other"
        assert keys
        assert self.parts_left.keys() == self.running.keys() or self.decodes_since_prefill, "others are owed a step"
        self.decodes_since_prefill = 0
        self.now += PREFILL_SECONDS_PER_TOKEN
        self._compute_parts([self.running[key] for key in keys])

    def _compute_parts(self, jobs: Sequence[Job]) -> None:
        """Compute a part of each prompt; those that are whole then have their first token."""
        for job in jobs:
            self.parts_left[job.key] -= 1
            if self.parts_left[job.key]:
                self.scheduler.hold(job.key)
            else:
                del self.parts_left[job.key]
        self._advance([job for job in jobs if job.key not in self.parts_left])

    def _decode(self, keys: Sequence[int]) -> None:
        assert set(keys) == self.running.keys() - self.parts_left.keys()
        assert keys
        assert not (self.parts_left and self.decodes_since_prefill), "parts are owed their turn"
        if self._fitting():
            assert self.decodes_since_prefill < max(1, self.budgets.max_waiting_tokens), "the first in line is held"
        self.decodes += 1
        self.decodes_since_prefill += 1
        self.now += DECODE_SECONDS
        self._advance([self.running[key] for key in keys])

    def _advance(self, jobs: Sequence[Job]) -> None:
        self._check_account()
        for job in jobs:
            self.generated[job.key] += 1
            if self.generated[job.key] == job.reply:
                self._remove(job)
                self.finished.append(job.key)

    def _remove(self, job: Job) -> None:
        self.waiting.pop(job.key, None)
        self.running.pop(job.key, None)
        self.parts_left.pop(job.key, None)
        self.marks.pop(job.key, None)
        assert self.scheduler.remove(job.key) == self.slots.pop(job.key, None)

    def _sleep(self, wakes: float | None) -> bool:
        """Go on to the next thing that happens; False when nothing will."""
        moments = [job.arrives for job in self._arrivals[:1]]
        moments += [lease.start for lease in self._pending_leases[:1]]
        moments += [lease.end for lease in self.held.values()]
        moments += [job.cancelled for job in self.waiting.values() if job.cancelled is not None]
        if wakes is not None:
            moments.append(max(self.now + wakes, math.nextafter(self.now, math.inf)))  # a clock moves on
        if moments:
            self.now = max(self.now, min(moments))
        return bool(moments)

    def _overdue(self, job: Job) -> bool:
        return self.now - job.arrives >= self.budgets.queue_threshold_ms / 1000

    def _cost(self, jobs: Sequence[Job]) -> int:
        lengths = [job.prompt for job in jobs]
        return len(lengths) * max(lengths) if self.budgets.padded else sum(lengths)

    def _taken(self) -> int:
        return sum(job.demand.total_tokens for job in self.running.values()) + sum(
            lease.tokens for lease in self.held.values()
        )

    def _fitting(self) -> bool:
        """Whether the first in line has room."""
        return bool(
            self.waiting
            and len(self.running) + len(self.held) < self.rows
            and self._taken() + self.line()[0].demand.total_tokens <= self.budgets.total_tokens
        )

    def _check_account(self) -> None:
        assert len(self.running) + len(self.held) <= self.rows
        assert self._taken() <= self.budgets.total_tokens
        assert self.table.free_count == self.rows - len(self.running) - len(self.held)
        assert self.table.free_tokens == self.budgets.total_tokens - self._taken()

    def _mark_overdue(self) -> None:
        """The bound is promised from when a request is overdue, and only without leases."""
        if self.leases:
            return
        line = [job for job in self.line() if self._overdue(job)]
        for before, job in enumerate(line):
            self.marks.setdefault(job.key, Mark(before, len(self.prefills), self.decodes))

    def _check_bound(self, mark: Mark) -> None:
        assert len(self.prefills) - mark.prefills <= mark.before
        between = (self._longest_reply - 1) + (self._most_parts - 1)
        assert self.decodes - mark.decodes <= (mark.before + 1) * between
