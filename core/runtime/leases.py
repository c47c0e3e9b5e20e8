"""Rows leased by step operations: a caller drives a batch by hand, in slots of the same table as normal traffic.

Called on the device thread only, between the steps of normal traffic. A batch nobody touches for `idle_seconds` is
given back.
"""

from __future__ import annotations

import itertools
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from runtime.backend import Prefix
from runtime.budgets import ANY_SHAPE, Budgets, Shapes
from runtime.errors import BackendError, InvalidRequest, Overloaded, RuntimeServiceError, UnknownBatch
from runtime.plugins import Hooks
from runtime.prefixes import Prefixes
from runtime.row import Row
from runtime.runtime import CachedBatch, Delta, StepResult
from runtime.slots import SlotTable
from runtime.stepper import Step, Stepper
from runtime.telemetry.metrics import Metrics

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PendingPrefix:
    """A finished prefill that is not concatenated yet."""

    prefix: Prefix[Any]
    rows: tuple[Row, ...]
    """In the order of the prefill, those that ended meanwhile included."""


@dataclass(slots=True)
class LeasedBatch:
    """Live rows and their request ids."""

    id: int
    rows: dict[int, Row]
    """By the caller's request id."""
    pending: list[PendingPrefix]
    deadline: float


class Leases:
    """All leased batches."""

    def __init__(
        self,
        hooks: Hooks,
        stepper: Stepper,
        slots: SlotTable,
        prefixes: Prefixes,
        budgets: Budgets,
        idle_seconds: float,
        clock: Callable[[], float],
        metrics: Metrics,
        shapes: Shapes = ANY_SHAPE,
    ) -> None:
        self._hooks = hooks
        self._stepper = stepper
        self._slots = slots
        self._prefixes = prefixes
        self._budgets = budgets
        self._idle_seconds = idle_seconds
        self._clock = clock
        self._metrics = metrics
        self._shapes = shapes
        self._ids = itertools.count(1 + secrets.randbits(32))  # an id of a worker before is nobody's here
        self._batches: dict[int, LeasedBatch] = {}

    def prefill(self, requests: Sequence[tuple[int, Row]]) -> StepResult:
        """Lease a slot per request and compute the prompts.

        Raises InvalidRequest for an empty or too large batch and for repeated ids, Overloaded when slots or their
        tokens are short.
        """
        started = time.perf_counter_ns()
        ids = [request_id for request_id, _ in requests]
        rows = [row for _, row in requests]
        if not rows or len(set(ids)) < len(ids):
            raise InvalidRequest("`batch.requests` must hold at least one request, and each `id` once")
        self._check_room(rows)
        for row in rows:
            free = self._prefixes.choose(row.symbols, self._slots.free, whole=True).slot
            row.slot = self._slots.lease(row.demand.total_tokens, free)
        try:
            with self._metrics.step("prefill"):
                step, prefix = self._stepper.prefill(rows)
        except BackendError:
            self._give_back(rows)
            raise
        batch = LeasedBatch(next(self._ids), dict(requests), [PendingPrefix(prefix, tuple(rows))], self._deadline())
        self._batches[batch.id] = batch
        return self._result(batch, step, started)

    def concatenate(self, batch_ids: Sequence[int]) -> CachedBatch:
        """Join batches into the first; their prefills are put into the running decode batch."""
        return _cached(self._joined(batch_ids))

    def decode(self, batch_ids: Sequence[int]) -> StepResult:
        """Advance a batch, or several joined, by one token."""
        started = time.perf_counter_ns()
        batch = self._joined(batch_ids)
        try:
            with self._metrics.step("decode"):
                step = self._stepper.decode(list(batch.rows.values()))
        except BackendError:
            self._drop(batch)
            raise
        return self._result(batch, step, started)

    def filter(self, batch_id: int, request_ids: Sequence[int]) -> CachedBatch:
        """Keep only these requests."""
        batch = self._named("batch_id", batch_id)
        unknown = set(request_ids) - set(batch.rows)
        if unknown or not request_ids:
            raise InvalidRequest(
                f"`request_ids` must name requests of batch {batch_id} ({sorted(batch.rows)}), got {list(request_ids)};"
                " to keep none, release the batch"
            )
        self._give_back([batch.rows.pop(request_id) for request_id in set(batch.rows) - set(request_ids)])
        batch.deadline = self._deadline()
        return _cached(batch)

    def release(self, batch_id: int | None) -> None:
        """Give back a batch, or all when None."""
        for batch in list(self._batches.values()) if batch_id is None else [self._named("id", batch_id)]:
            self._drop(batch)

    def expire(self) -> None:
        """Give back the batches that nobody touched in time."""
        for batch in list(self._batches.values()):
            if batch.deadline <= self._clock():
                log.warning("lease of batch %d expired after %g s without use", batch.id, self._idle_seconds)
                self._drop(batch)

    @property
    def seconds_to_expiry(self) -> float | None:
        """Time until the next lease ends; None when there is none."""
        if not self._batches:
            return None
        return max(0.0, min(batch.deadline for batch in self._batches.values()) - self._clock())

    def _check_room(self, rows: Sequence[Row]) -> None:
        """Refuse a prefill larger than any, and one that does not fit into what is free."""
        slots = self._slots
        lengths = [row.demand.prefill_tokens for row in rows]
        total = sum(row.demand.total_tokens for row in rows)
        if len(rows) > self._hooks.limits.prefill_rows:
            raise InvalidRequest(
                f"`batch.requests` holds {len(rows)} requests; one prefill takes {self._hooks.limits.prefill_rows}"
            )
        if (cost := self._budgets.prefill_cost(len(rows), max(lengths), sum(lengths))) > self._budgets.prefill_tokens:
            raise InvalidRequest(
                f"`batch.requests` costs {cost} tokens; one prefill takes {self._budgets.prefill_tokens}: send fewer"
            )
        if not self._shapes.fits(len(rows), max(lengths)):
            raise InvalidRequest(
                f"`batch.requests` holds {len(rows)} prompts of up to {max(lengths)} tokens; padded to a shape, one "
                "prefill takes fewer: send fewer"
            )
        if total > slots.tokens:
            raise InvalidRequest(
                f"`batch.requests` may come to hold {total} tokens; all rows together hold {slots.tokens}: send fewer"
            )
        if len(rows) > slots.free_count:
            raise Overloaded(f"{len(rows)} rows wanted, {slots.free_count} of {slots.count} are free now")
        if total > slots.free_tokens:
            raise Overloaded(f"{total} tokens wanted, {slots.free_tokens} of {slots.tokens} are free now")

    def _joined(self, batch_ids: Sequence[int]) -> LeasedBatch:
        if not batch_ids or len(set(batch_ids)) < len(batch_ids):
            raise InvalidRequest("`batches` must name at least one batch, and each once")
        batches = [self._named("batches", batch_id) for batch_id in batch_ids]
        first, *others = batches
        rows = [row_id for batch in batches for row_id in batch.rows]
        if len(set(rows)) < len(rows):
            raise InvalidRequest(f"`batches` share request ids ({sorted(rows)}); joined batches must not")
        for batch in batches:
            self._place(batch)
        for other in others:
            first.rows |= other.rows
            del self._batches[other.id]
        first.deadline = self._deadline()
        return first

    def _place(self, batch: LeasedBatch) -> None:
        live = set(batch.rows.values())
        try:
            for pending in batch.pending:
                self._stepper.place(pending.prefix, pending.rows, [row for row in pending.rows if row in live])
        except BackendError:
            self._drop(batch)
            raise
        batch.pending.clear()

    def _result(self, batch: LeasedBatch, step: Step, started: int) -> StepResult:
        """Give finished rows back and tell what the step did; the first error ends the batch."""
        for _, outcome in step.outcomes:
            if isinstance(outcome, RuntimeServiceError):
                self._drop(batch)
                raise outcome
        deltas = zip(list(batch.rows), (outcome for _, outcome in step.outcomes), strict=True)
        told = tuple((request_id, outcome) for request_id, outcome in deltas if isinstance(outcome, Delta))
        finished = [request_id for request_id, delta in told if delta.completion is not None]
        with self._metrics.filter_duration.labels(step.method).time():
            self._give_back([batch.rows.pop(request_id) for request_id in finished])
        if batch.rows:
            batch.deadline = self._deadline()
        else:
            del self._batches[batch.id]
        return StepResult(
            deltas=told,
            batch=_cached(batch) if batch.rows else None,
            forward_ns=step.forward_ns,
            decode_ns=step.decode_ns,
            total_ns=time.perf_counter_ns() - started,
        )

    def _named(self, field: str, batch_id: int) -> LeasedBatch:
        if batch_id not in self._batches:
            raise UnknownBatch(f"`{field}`: there is no batch {batch_id}; it ended, was released or its lease expired")
        return self._batches[batch_id]

    def _drop(self, batch: LeasedBatch) -> None:
        del self._batches[batch.id]
        self._give_back(list(batch.rows.values()))

    def _give_back(self, rows: Sequence[Row]) -> None:
        if not rows:
            return
        for row in rows:
            self._slots.release(row.slot)
        self._hooks.release([row.slot for row in rows])

    def _deadline(self) -> float:
        return self._clock() + self._idle_seconds


def _cached(batch: LeasedBatch) -> CachedBatch:
    return CachedBatch(batch.id, tuple(batch.rows), sum(row.position + 1 for row in batch.rows.values()))
