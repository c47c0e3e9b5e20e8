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
from typing import TypeVar

from runtime.backend import Capacity
from runtime.budgets import Budgets
from runtime.errors import BackendError, InvalidRequest, NotReady, RuntimeServiceError
from runtime.leases import Leases
from runtime.plugins import Hooks
from runtime.row import Outcome, Row
from runtime.runtime import Health, Readiness
from runtime.scheduler import DecodeStep, PrefillStep, Scheduler
from runtime.slots import SlotTable
from runtime.stepper import Step, Stepper, is_final
from runtime.telemetry.metrics import Metrics

Result = TypeVar("Result")
Deliver = Callable[[Sequence[tuple[Row, Outcome]]], None]

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
    ) -> None:
        """`load` and `deliver` are called on the device thread; `deliver` must not block.

        Without `budgets` only the slots limit what runs together.
        """
        self._load = load
        self._deliver = deliver
        self._lease_idle_seconds = lease_idle_seconds
        self._metrics = metrics
        self._clock = clock
        self._budgets = budgets
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._stopping = False
        self._rows: dict[int, Row] = {}
        self._thread = threading.Thread(target=self._main, name="device", daemon=True)
        self.health = Health(Readiness.LOADING, "loading the model")
        self.loaded: Future[Capacity] = Future()
        """What the backend affords, when the model is loaded; or the reason why it is not."""
        self.ended: Future[None] = Future()
        """Resolved when the device thread ends after loading; nothing is served from then on."""

    def start(self) -> None:
        """Load the model and begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """End after the step at work; rows still running get an error."""
        self._inbox.put(self._stop)
        self._thread.join()

    def submit(self, row: Row) -> None:
        """Queue a row; its sink hears of everything that follows."""
        arrived = self._clock()  # not when the device thread looks: it may be in the middle of a long prefill
        self._inbox.put(lambda: self._add(row, arrived))

    def cancel(self, key: int) -> None:
        """Forget a row at the next step boundary; a row that ended meanwhile is no error."""
        self._inbox.put(lambda: self._remove(key))

    def call(self, work: Callable[[Hooks, Leases], Result]) -> Future[Result]:
        """Run `work` on the device thread at the next step boundary."""
        future: Future[Result] = Future()

        def run() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(work(self._hooks, self._leases))
                except Exception as error:
                    future.set_exception(error)

        self._inbox.put(run)
        return future

    def _main(self) -> None:
        try:
            self._start_serving()
        except Exception as error:
            self.health = Health(Readiness.FAILED, str(error))
            self.loaded.set_exception(error)
            return
        try:
            while not self._stopping:
                self._take_commands()
                self._step()
                self._metrics.tell_rows(self._slots, waiting=len(self._rows) - self._scheduler.running_count)
            self._end(NotReady("the server is stopping"))
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

    def _start_serving(self) -> None:
        self._hooks = self._load()
        capacity = self._hooks.capacity()
        limits = replace(self._hooks.limits, rows=capacity.rows, context=capacity.context)
        budgets = self._budgets or Budgets.of(limits)
        self._slots = slots = SlotTable(capacity.rows, budgets.total_tokens)
        self._metrics.rows.set(capacity.rows)
        self._metrics.batch_token_limit.set(budgets.total_tokens)
        self._stepper = Stepper(self._hooks, limits)
        self._scheduler: Scheduler[int] = Scheduler(slots, limits.prefill_rows, budgets)
        self._leases = Leases(self._hooks, self._stepper, slots, budgets, self._lease_idle_seconds, self._clock)
        self.health = Health(Readiness.READY)
        self.loaded.set_result(capacity)

    def _take_commands(self) -> None:
        """Run what is in the inbox; wait for something when there is nothing to compute."""
        now = self._clock()
        waits = (self._leases.seconds_to_expiry, self._scheduler.seconds_to_reorder(now))
        timeout = min((seconds for seconds in waits if seconds is not None), default=None)
        try:
            command = self._inbox.get(block=not self._scheduler.has_step(now), timeout=timeout)
            while True:
                command()
                command = self._inbox.get_nowait()
        except queue.Empty:
            pass
        self._leases.expire()

    def _step(self) -> None:
        match self._scheduler.next_step(self._clock()):
            case PrefillStep(placed):
                self._prefill([self._rows[key] for key, _ in placed], [slot for _, slot in placed])
            case DecodeStep(keys):
                self._decode([self._rows[key] for key in keys])

    def _prefill(self, rows: list[Row], slots: list[int]) -> None:
        for row, slot in zip(rows, slots, strict=True):
            row.slot, row.started = slot, self._clock()
        lengths = [len(row.prompt) for row in rows]
        self._metrics.next_batch_size.observe(len(rows))
        self._metrics.padding_share.observe(1 - sum(lengths) / (len(rows) * max(lengths)))

        def compute() -> Step:
            step, prefix = self._stepper.prefill(rows)
            self._stepper.place(prefix, rows, step.live_rows)
            return step

        self._compute("prefill", rows, compute)

    def _decode(self, rows: list[Row]) -> None:
        self._compute("decode", rows, lambda: self._stepper.decode(rows))

    def _compute(self, method: str, rows: Sequence[Row], compute: Callable[[], Step]) -> None:
        metrics, started = self._metrics, self._clock()
        metrics.step_count.labels(method).inc()
        try:
            step = compute()
        except BackendError as error:
            metrics.step_failure.labels(method).inc()
            self._fail(rows, error)
            return
        metrics.step_success.labels(method).inc()
        metrics.step_duration.labels(method).observe(self._clock() - started)
        metrics.forward_duration.labels(method).observe(step.forward_ns / 1e9)
        metrics.decode_duration.labels(method).observe(step.decode_ns / 1e9)
        self._finish(step)

    def _finish(self, step: Step) -> None:
        for row, outcome in step.outcomes:
            if is_final(outcome):
                self._remove(row.key)
        self._deliver(step.outcomes)

    def _fail(self, rows: Sequence[Row], error: RuntimeServiceError) -> None:
        for row in rows:
            self._remove(row.key)
        self._deliver([(row, error) for row in rows])

    def _add(self, row: Row, arrived: float) -> None:
        try:
            self._scheduler.add(row.key, row.demand, arrived)
        except InvalidRequest as error:
            self._deliver([(row, error)])
        else:
            self._rows[row.key] = row

    def _remove(self, key: int) -> None:
        self._rows.pop(key, None)
        slot = self._scheduler.remove(key)
        if slot is not None:
            self._hooks.release([slot])

    def _stop(self) -> None:
        self._stopping = True
