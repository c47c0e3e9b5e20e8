"""The device thread: one loop that takes commands, asks the scheduler for a step and runs it.

Everything that touches the backend happens on this thread, between or in steps, so nothing else needs a lock. Commands
come through the inbox; what happens to rows leaves through `deliver`, once per step, so that a step wakes the event
loop once however many rows it advanced.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Final, TypeVar

from runtime.backend import Capacity, WarmupProgress
from runtime.batches import alike, bucket_of
from runtime.budgets import Budgets
from runtime.errors import (
    BackendError,
    BackendRefused,
    DeviceLost,
    InvalidRequest,
    NotReady,
    RuntimeServiceError,
    UnplannedShape,
)
from runtime.leases import Leases
from runtime.plugins import Hooks
from runtime.prefixes import Prefixes
from runtime.preparation import Interrupted, Planner, Preparation, Prepared
from runtime.probe import Probe
from runtime.row import Outcome, Row
from runtime.runtime import Delta, Health, Readiness, StepResult
from runtime.scheduler import DecodeStep, PrefillStep, Scheduler
from runtime.slots import SlotTable
from runtime.stepper import Chosen, Step, Stepper, is_final
from runtime.telemetry.metrics import Metrics

Result = TypeVar("Result")
Deliver = Callable[[Sequence[tuple[Row, Outcome]]], None]

END_SECONDS: Final = 5.0
"""For the step or the shape at work to end, after the order to stop."""
LONG_SHAPE_SECONDS: Final = 10.0
"""In the warm-up, after which the health tells how long the shape at work takes."""

log = logging.getLogger(__name__)


class Engine:
    """Owns the backend and its slots. Public methods may be called from any thread."""

    def __init__(
        self,
        load: Callable[[], Hooks],
        deliver: Deliver,
        lease_idle_seconds: float,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
        budgets: Budgets | None = None,
        plan: Planner | None = None,
        reuse_prefixes: bool = False,
        prefill_chunk: int | None = None,
        warm_up: bool = True,
        apart: bool = False,
    ) -> None:
        """`load` and `deliver` are called on the device thread; `deliver` must not block.

        Without `budgets` only the slots limit what runs together. With a `plan` every batch is padded to one of its
        shapes, and with `warm_up` all of them are warmed first. `reuse_prefixes` and `prefill_chunk`, the most tokens
        of a prompt that are computed at once, need a backend that resumes. With `apart` each row decodes by itself,
        where no plan says what it is padded to.
        """
        self.preparation = Preparation(load, budgets, plan, warm_up, metrics, clock, self._tell_health, apart)
        self._deliver = deliver
        self._lease_idle_seconds = lease_idle_seconds
        self._metrics = metrics
        self._clock = clock
        self._reuse_prefixes = reuse_prefixes
        self._prefill_chunk = prefill_chunk
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._stopping = False
        self._rows: dict[int, Row] = {}
        self._untold: Chosen | None = None
        """The last step, while its texts are still to be told."""
        self._thread = threading.Thread(target=self._main, name="device", daemon=True)
        self._busy_since: float | None = None
        """When the device thread began what it is at; None between two, and when there is nothing to do."""
        self.health = Health(Readiness.LOADING, "loading the model")
        """What was last done or found; `report` tells of this moment."""
        self.loaded: Future[Capacity] = Future()
        """What the backend affords, when it can serve; or the reason why it cannot. Cancelled by `stop`."""
        self.ended: Future[None] = Future()
        """Resolved when the device thread ends after loading; nothing is served from then on."""

    def start(self) -> None:
        """Load the model, warm it up and begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """End after the step at work, or the shape that is being warmed; rows still running get an error.

        Waits END_SECONDS at most: a device may hang, and a large model loads for minutes.
        """
        self.preparation.interrupt()
        self._inbox.put(self._stop)
        self._thread.join(END_SECONDS)

    @property
    def is_running(self) -> bool:
        """Whether the device thread has not ended, as after a `stop` in a step that hangs."""
        return self._thread.is_alive()

    def report(self) -> Health:
        """Tell the health with what the device thread is at now; answers at once, whatever that is."""
        since, health = self._busy_since, self.health
        ended = health.readiness is Readiness.FAILED
        busy = 0.0 if ended or since is None else max(0.0, self._clock() - since)
        if health.readiness is Readiness.READY and self._probe.trouble:
            return Health(Readiness.FAILED, self._probe.trouble, busy)
        if health.readiness is Readiness.WARMING and busy >= LONG_SHAPE_SECONDS:
            health = replace(health, message=f"{health.message}; at the next shape for {busy:.0f} s")
        return replace(health, busy_seconds=busy)

    def submit(self, row: Row) -> None:
        """Queue a row; its sink hears of everything that follows."""
        arrived = self._clock()  # not when the device thread looks: it may be in the middle of a long prefill
        self._inbox.put(lambda: self._add(row, arrived))

    def cancel(self, key: int) -> None:
        """Forget a row at the next step boundary; a row that ended meanwhile is no error."""
        self._inbox.put(lambda: self._remove(key))

    def bucket(self, length: int, pictures: Sequence[slice]) -> int | None:
        """Return as how many tokens a prompt would be computed; None while nothing is served, or for one too long.

        `pictures` says where the placeholders of each picture lie.
        """
        if self.health.readiness is not Readiness.READY:
            return None
        try:
            return bucket_of(length, pictures, self._chunk, self._shapes)
        except UnplannedShape:
            return None

    def call(self, work: Callable[[Hooks, Leases], Result]) -> Future[Result]:
        """Run `work` on the device thread at the next step boundary."""
        return self._ordered(lambda: work(self._hooks, self._leases))

    def warm_up(self, tell: Callable[[WarmupProgress], None]) -> Future[None]:
        """Run the warm-up once more at the next step boundary; `tell` is called on the device thread.

        Rows are lost when the backend affords fewer of them after it.
        """
        return self._ordered(lambda: self._warm_again(tell))

    def _ordered(self, work: Callable[[], Result]) -> Future[Result]:
        future: Future[Result] = Future()

        def run() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    result = work()
                    if isinstance(result, StepResult):
                        self._probe.worked()
                    future.set_result(result)
                except Exception as error:
                    self._stopping |= isinstance(error, DeviceLost)
                    future.set_exception(error)

        self._inbox.put(run)
        return future

    def _main(self) -> None:
        self._begin()
        try:
            self._serve(self.preparation.run())
            self._busy_since = None
            self.health = Health(Readiness.READY)
            self.loaded.set_result(self.prepared.capacity)
        except Interrupted as error:
            self.health = Health(Readiness.FAILED, error.message)
            self.loaded.cancel()  # who stops the server does not ask why it is not ready
            return
        except Exception as error:
            self.health = Health(Readiness.FAILED, _told(error))
            self.loaded.set_exception(error)
            return
        try:
            while not self._stopping:
                self._take_commands()
                self._step()
                self._tell_rows()
            self._end(NotReady("the server is stopping"))
        except DeviceLost as error:
            self._end(error)
        except Exception as error:  # a bug of ours: every waiter must hear of it, and the process must not go on
            log.exception("the device thread died")
            self._end(BackendError(f"the server failed ({type(error).__name__}); its log has the cause"))

    def _end(self, error: RuntimeServiceError) -> None:
        self.health = Health(Readiness.FAILED, error.message)
        with suppress(queue.Empty):  # who looked at the health before this waits for an answer
            while True:
                self._inbox.get_nowait()()
        rows, self._rows = list(self._rows.values()), {}
        self._deliver([(row, error) for row in rows])
        self.ended.set_result(None)

    def _serve(self, prepared: Prepared) -> None:
        """Begin with empty slots."""
        self.prepared = prepared
        capacity, budgets = prepared.capacity, prepared.budgets
        self._hooks, self._shapes = prepared.hooks, prepared.shapes
        self._slots = slots = SlotTable(capacity.rows, budgets.total_tokens)
        self._metrics.rows.set(capacity.rows)
        self._metrics.batch_token_limit.set(budgets.total_tokens)
        self._asynchronous = capacity.asynchronous
        self._chunk = self._prefill_chunk if capacity.resumes else None
        self._prefixes = Prefixes(enabled=self._reuse_prefixes and capacity.resumes)
        self._stepper = Stepper(self._hooks, self._shapes, self._metrics)
        self._stepper.tell_backend()
        self._probe = Probe(self._hooks, self._stepper, self._shapes, self._clock)
        self._scheduler: Scheduler[int] = Scheduler(
            slots, prepared.limits.prefill_rows, budgets, prepared.admitted, self._place
        )
        self._leases = Leases(
            self._hooks,
            self._stepper,
            slots,
            self._prefixes,
            budgets,
            self._lease_idle_seconds,
            self._clock,
            self._metrics,
            prepared.admitted,
        )

    def _warm_again(self, tell: Callable[[WarmupProgress], None]) -> None:
        self._tell_untold()

        def advance(progress: WarmupProgress) -> None:
            self._begin()  # a shape is a step: all of them together take minutes
            tell(progress)

        try:
            prepared = self.preparation.warm(self.prepared, advance)
        except BackendRefused:  # it cannot serve what it did before
            self._stopping = True
            raise
        if prepared is not self.prepared:
            lost, self._rows = list(self._rows.values()), {}
            error = NotReady("the rows were given up, for there is room for fewer after the warm-up; try again")
            self._deliver([(row, error) for row in lost])
            self._serve(prepared)

    def _tell_health(self, health: Health) -> None:
        self.health = health
        self._begin()

    def _begin(self) -> None:
        """Note that a step, a command or a shape begins."""
        self._busy_since = self._clock()

    def _take_commands(self) -> None:
        """Run what is in the inbox; wait for something when there is nothing to compute."""
        now = self._clock()
        if self._untold is not None and not self._scheduler.has_step(now):
            self._tell_untold()
        waits = (
            self._leases.seconds_to_expiry,
            self._scheduler.seconds_to_reorder(now),
            self._probe.seconds_left(now),
        )
        timeout = min((seconds for seconds in waits if seconds is not None), default=None)
        self._busy_since = None
        try:
            command = self._inbox.get(block=not self._scheduler.has_step(now), timeout=timeout)
            while True:
                self._begin()
                command()
                command = self._inbox.get_nowait()
        except queue.Empty:
            pass
        self._leases.expire()

    def _step(self) -> None:
        now = self._clock()
        self._busy_since = now
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
                self._try_device()

    def _try_device(self) -> None:
        """Compute a little where nobody is; put it off when every slot is leased, for then somebody steps by hand."""
        if not self._slots.free_count:
            self._probe.postpone()
            return
        slot = self._prefixes.choose((), self._slots.free).slot
        self._probe.run(slot, is_wanted=lambda: not self._inbox.empty())

    def _place(self, key: int, free: Sequence[int]) -> int:
        """Choose the slot that holds most of a row's prompt already, and set what is left to compute."""
        row = self._rows[key]
        choice = self._prefixes.choose(row.symbols, free, whole=row.prompt_logprobs)
        row.begin(choice.offset, None if row.prompt_logprobs else self._chunk)
        self._metrics.prefix_reused_tokens.inc(choice.offset)
        return choice.slot

    def _prefill(self, rows: Sequence[Row]) -> None:
        self._tell_untold()
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
                self._tell_untold()
                self._untold = self._stepper.choose(launched)
        except BackendError as error:
            self._tell_untold()  # of the step before, when this one could not even be launched
            self._fail(rows, error)
        else:
            if not self._asynchronous or self._untold.ends_some:
                self._tell_untold()

    def _tell_untold(self) -> None:
        untold, self._untold = self._untold, None
        if untold is not None:
            self._finish(self._stepper.tell(untold))

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
                    self._remove(row.key)
                if isinstance(outcome, BackendError):
                    self._prefixes.forget(row.slot)
        if any(isinstance(outcome, Delta) for _, outcome in step.outcomes):
            self._probe.worked()
        self._deliver(outcomes)

    def _fail(self, rows: Sequence[Row], error: RuntimeServiceError) -> None:
        failed = [row for row in rows if row.key in self._rows]
        for row in failed:
            self._remove(row.key)
        for row in rows:  # also of those that ended just before: who knows what the step wrote
            self._prefixes.forget(row.slot)
        self._deliver([(row, error) for row in failed])

    def _add(self, row: Row, arrived: float) -> None:
        try:
            self._scheduler.add(row.key, row.demand, arrived)
        except InvalidRequest as error:
            self._deliver([(row, error)])
        else:
            self._rows[row.key] = row

    def _remove(self, key: int) -> None:
        """Forget a row, but not what its slot holds."""
        row = self._rows.pop(key, None)
        slot = self._scheduler.remove(key)
        if slot is not None:
            self._hooks.release([slot])
            if row is not None:
                self._prefixes.keep(slot, row.held)

    def _tell_rows(self) -> None:
        waiting = len(self._rows) - self._scheduler.running_count
        # Rows are in the order they came, so the search ends behind the running ones at the latest.
        oldest = next((row.queued for row in self._rows.values() if row.slot < 0), None) if waiting else None
        self._metrics.tell_rows(self._slots, waiting, oldest)

    def _stop(self) -> None:
        self._stopping = True


def _told(error: Exception) -> str:
    if isinstance(error, RuntimeServiceError):
        return error.message
    return "the model could not be loaded; the server's log has the cause"
