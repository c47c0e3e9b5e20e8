"""The device thread: one loop that takes commands and runs steps.

Everything that touches the backend happens on this thread, between or in steps, so nothing else needs a lock. Commands
come through the inbox; what is computed in a step, `batcher.py` decides.
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
from typing import Final, TypeVar

from runtime.backend import Capacity, WarmupProgress
from runtime.batcher import Batcher, Deliver
from runtime.budgets import Budgets
from runtime.errors import BackendError, BackendRefused, DeviceLost, NotReady, RuntimeServiceError
from runtime.leases import Leases
from runtime.plugins import Hooks
from runtime.preparation import Interrupted, Planner, Preparation, Prepared
from runtime.row import Row
from runtime.runtime import Health, Readiness, StepResult
from runtime.telemetry.metrics import Metrics

Result = TypeVar("Result")

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
        if health.readiness is Readiness.READY and (trouble := self._batcher.trouble):
            return Health(Readiness.FAILED, trouble, busy)
        if health.readiness is Readiness.WARMING and busy >= LONG_SHAPE_SECONDS:
            health = replace(health, message=f"{health.message}; at the next shape for {busy:.0f} s")
        return replace(health, busy_seconds=busy)

    def submit(self, row: Row) -> None:
        """Queue a row; its sink hears of everything that follows."""
        arrived = self._clock()  # not when the device thread looks: it may be in the middle of a long prefill
        self._inbox.put(lambda: self._batcher.add(row, arrived))

    def cancel(self, key: int) -> None:
        """Forget a row at the next step boundary; a row that ended meanwhile is no error."""
        self._inbox.put(lambda: self._batcher.remove(key))

    def bucket(self, length: int, pictures: Sequence[slice]) -> int | None:
        """Return as how many tokens a prompt would be computed; None while nothing is served, or for one too long.

        `pictures` says where the placeholders of each picture lie.
        """
        return self._batcher.bucket(length, pictures) if self.health.readiness is Readiness.READY else None

    def call(self, work: Callable[[Hooks, Leases], Result]) -> Future[Result]:
        """Run `work` on the device thread at the next step boundary."""
        return self._ordered(lambda: work(self.prepared.hooks, self._batcher.leases))

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
                        self._batcher.worked()
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
                self._batcher.tell_rows()
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
        self._batcher.end_all(error)
        self.ended.set_result(None)

    def _serve(self, prepared: Prepared) -> None:
        """Begin with empty slots."""
        self.prepared = prepared
        self._batcher = Batcher(
            prepared,
            self._deliver,
            self._lease_idle_seconds,
            self._metrics,
            self._clock,
            self._reuse_prefixes,
            self._prefill_chunk,
        )

    def _warm_again(self, tell: Callable[[WarmupProgress], None]) -> None:
        self._batcher.tell_untold()

        def advance(progress: WarmupProgress) -> None:
            self._begin()  # a shape is a step: all of them together take minutes
            tell(progress)

        try:
            prepared = self.preparation.warm(self.prepared, advance)
        except BackendRefused:  # it cannot serve what it did before
            self._stopping = True
            raise
        if prepared is not self.prepared:
            error = NotReady("the rows were given up, for there is room for fewer after the warm-up; try again")
            self._batcher.end_all(error)
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
        if not self._batcher.has_step(now):
            self._batcher.tell_untold()
        timeout = self._batcher.seconds_left(now)
        self._busy_since = None
        try:
            command = self._inbox.get(block=not self._batcher.has_step(now), timeout=timeout)
            while True:
                self._begin()
                command()
                command = self._inbox.get_nowait()
        except queue.Empty:
            pass
        self._batcher.leases.expire()

    def _step(self) -> None:
        now = self._clock()
        self._busy_since = now
        self._batcher.step(now, is_wanted=lambda: not self._inbox.empty())

    def _stop(self) -> None:
        self._stopping = True


def _told(error: Exception) -> str:
    if isinstance(error, RuntimeServiceError):
        return error.message
    return "the model could not be loaded; the server's log has the cause"
