"""Continuous batching on a prepared backend: which rows are computed next, and what becomes of them.

On the device thread, but for `bucket` and `trouble`. What happens to rows leaves through `deliver`, once per step, so
that a step wakes the event loop once however many rows it advanced.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from runtime.batches import alike, bucket_of
from runtime.errors import BackendError, InvalidRequest, RuntimeServiceError, UnplannedShape
from runtime.leases import Leases
from runtime.prefixes import Prefixes
from runtime.preparation import Prepared
from runtime.probe import Probe
from runtime.row import Outcome, Row
from runtime.runtime import Delta
from runtime.scheduler import DecodeStep, PrefillStep, Scheduler
from runtime.slots import SlotTable
from runtime.stepper import Chosen, Step, Stepper, is_final
from runtime.telemetry.metrics import Metrics

Deliver = Callable[[Sequence[tuple[Row, Outcome]]], None]


class Batcher:
    """The rows in the engine, and the slots they share."""

    def __init__(
        self,
        prepared: Prepared,
        deliver: Deliver,
        lease_idle_seconds: float,
        metrics: Metrics,
        clock: Callable[[], float],
        reuse_prefixes: bool,
        prefill_chunk: int | None,
    ) -> None:
        """Begin with empty slots; the arguments are those of the engine."""
        capacity, budgets = prepared.capacity, prepared.budgets
        self._hooks, self._shapes = prepared.hooks, prepared.shapes
        self._deliver = deliver
        self._metrics = metrics
        self._clock = clock
        self._rows: dict[int, Row] = {}
        self._untold: Chosen | None = None
        """The last step, while its texts are still to be told."""
        self._slots = slots = SlotTable(capacity.rows, budgets.total_tokens)
        metrics.rows.set(capacity.rows)
        metrics.batch_token_limit.set(budgets.total_tokens)
        self._asynchronous = capacity.asynchronous
        self._chunk = prefill_chunk if capacity.resumes else None
        self._prefixes = Prefixes(enabled=reuse_prefixes and capacity.resumes)
        self._stepper = Stepper(self._hooks, self._shapes, metrics)
        self._stepper.tell_backend()
        self._probe = Probe(self._hooks, self._stepper, self._shapes, clock)
        self._scheduler: Scheduler[int] = Scheduler(
            slots, prepared.limits.prefill_rows, budgets, prepared.admitted, self._place
        )
        self.leases = Leases(
            self._hooks,
            self._stepper,
            slots,
            self._prefixes,
            budgets,
            lease_idle_seconds,
            clock,
            metrics,
            prepared.admitted,
        )

    @property
    def trouble(self) -> str:
        """Why the device fails, as the last idle probe found; empty when it does not. May be read by any thread."""
        return self._probe.trouble

    def bucket(self, length: int, pictures: Sequence[slice]) -> int | None:
        """Return as how many tokens a prompt would be computed; None for one too long. May be called by any thread."""
        try:
            return bucket_of(length, pictures, self._chunk, self._shapes)
        except UnplannedShape:
            return None

    def add(self, row: Row, arrived: float) -> None:
        """Queue a row that came at `arrived`."""
        try:
            self._scheduler.add(row.key, row.demand, arrived)
        except InvalidRequest as error:
            self._deliver([(row, error)])
        else:
            self._rows[row.key] = row

    def remove(self, key: int) -> None:
        """Forget a row, but not what its slot holds; a row that ended meanwhile is no error."""
        row = self._rows.pop(key, None)
        slot = self._scheduler.remove(key)
        if slot is not None:
            self._hooks.release([slot])
            if row is not None:
                self._prefixes.keep(slot, row.held)

    def end_all(self, error: RuntimeServiceError) -> None:
        """End every row with an error, and compute none of them any more."""
        rows, self._rows = list(self._rows.values()), {}
        self._deliver([(row, error) for row in rows])

    def has_step(self, now: float) -> bool:
        """Whether there is a row to compute."""
        return self._scheduler.has_step(now)

    def seconds_left(self, now: float) -> float | None:
        """Return for how long there is nothing to do unless a command comes; None when that is for good."""
        waits = (
            self.leases.seconds_to_expiry,
            self._scheduler.seconds_to_reorder(now),
            self._probe.seconds_left(now),
        )
        return min((seconds for seconds in waits if seconds is not None), default=None)

    def step(self, now: float, is_wanted: Callable[[], bool]) -> None:
        """Compute the next step, or try a device that was idle for long, unless it `is_wanted` for something else."""
        match self._scheduler.next_step(now):
            case PrefillStep(placed, concat, continued):
                if concat is not None:
                    self._metrics.concat_count.labels(concat).inc()
                for key, slot in placed:
                    self._rows[key].slot, self._rows[key].started = slot, self._clock()
                for key in continued:
                    self._rows[key].proceed(self._chunk)
                self._prefill([self._rows[key] for key in (*(key for key, _ in placed), *continued)])
            case DecodeStep(keys):
                self._decode([self._rows[key] for key in keys])
            case None if not self._probe.seconds_left(now):
                self._try_device(is_wanted)

    def worked(self) -> None:
        """Note that the device has just computed something by hand."""
        self._probe.worked()

    def tell_untold(self) -> None:
        """Deliver the texts of the last step, where that is still to be done."""
        untold, self._untold = self._untold, None
        if untold is not None:
            self._finish(self._stepper.tell(untold))

    def tell_rows(self) -> None:
        """Record how many rows run and wait."""
        waiting = len(self._rows) - self._scheduler.running_count
        # Rows are in the order they came, so the search ends behind the running ones at the latest.
        oldest = next((row.queued for row in self._rows.values() if row.slot < 0), None) if waiting else None
        self._metrics.tell_rows(self._slots, waiting, oldest)

    def _try_device(self, is_wanted: Callable[[], bool]) -> None:
        """Compute a little where nobody is; put it off when every slot is leased, for then somebody steps by hand."""
        if not self._slots.free_count:
            self._probe.postpone()
            return
        slot = self._prefixes.choose((), self._slots.free).slot
        self._probe.run(slot, is_wanted)

    def _place(self, key: int, free: Sequence[int]) -> int:
        """Choose the slot that holds most of a row's prompt already, and set what is left to compute."""
        row = self._rows[key]
        choice = self._prefixes.choose(row.symbols, free, whole=row.prompt_logprobs)
        row.begin(choice.offset, None if row.prompt_logprobs else self._chunk)
        self._metrics.prefix_reused_tokens.inc(choice.offset)
        return choice.slot

    def _prefill(self, rows: Sequence[Row]) -> None:
        self.tell_untold()
        for group in alike(rows, self._shapes):
            self._compute("prefill", group, partial(self._prefilled, group))

    def _prefilled(self, rows: list[Row]) -> Step:
        step, prefix = self._stepper.prefill(rows)
        unfinished = [row for row in rows if not row.is_whole]
        self._stepper.place(prefix, rows, [*step.live_rows, *unfinished])
        for row in unfinished:
            self._scheduler.hold(row.key)
        return step

    def _decode(self, rows: list[Row]) -> None:
        """Launch a step; on an asynchronous device tell the one before while it computes.

        A row that turns out to have ended with its text is in the step launched already; that token is dropped.
        """
        try:
            with self._metrics.step("decode"):
                launched = self._stepper.launch(rows)
                self.tell_untold()
                self._untold = self._stepper.choose(launched)
        except BackendError as error:
            self.tell_untold()  # of the step before, when this one could not even be launched
            self._fail(rows, error)
        else:
            if not self._asynchronous or self._untold.ends_some:
                self.tell_untold()

    def _compute(self, method: str, rows: Sequence[Row], compute: Callable[[], Step]) -> None:
        try:
            with self._metrics.step(method):
                step = compute()
        except BackendError as error:
            self._fail(rows, error)
        else:
            self._finish(step)

    def _finish(self, step: Step) -> None:
        with self._metrics.filter_duration.labels(step.method).time():
            outcomes = [(row, outcome) for row, outcome in step.outcomes if row.key in self._rows]
            for row, outcome in outcomes:
                if is_final(outcome):
                    self.remove(row.key)
                if isinstance(outcome, BackendError):
                    self._prefixes.forget(row.slot)
        if any(isinstance(outcome, Delta) for _, outcome in step.outcomes):
            self._probe.worked()
        self._deliver(outcomes)

    def _fail(self, rows: Sequence[Row], error: RuntimeServiceError) -> None:
        failed = [row for row in rows if row.key in self._rows]
        for row in failed:
            self.remove(row.key)
        for row in rows:  # also of those that ended just before: who knows what the step wrote
            self._prefixes.forget(row.slot)
        self._deliver([(row, error) for row in failed])
