"""The idle probe, on a device thread whose clock the test moves."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest
from runtime.backend import DecodeBatch, DecodeOutput, PrefillBatch, PrefillOutput
from runtime.engine import Engine
from runtime.hookspecs import hookimpl
from runtime.leases import Leases
from runtime.plugins import Hooks
from runtime.probe import AGAIN_SECONDS, PROBE_SECONDS
from runtime.row import Outcome, Row
from runtime.runtime import Health, Readiness
from runtime.telemetry.metrics import Metrics
from support.arithmetic import FAILS, ArithmeticBackend
from support.leasing import row
from support.scrape import read_scrape
from support.serving import LIMITS, MODEL

SECONDS = 30


class Device(ArithmeticBackend):
    """Fails in its decode while it is told to, and waits there while it is held."""

    def __init__(self) -> None:
        super().__init__(MODEL.vocabulary, LIMITS)
        self.fails = False
        self.held = threading.Event()
        self.let_go = threading.Event()
        self.let_go.set()
        self.computed: queue.SimpleQueue[str] = queue.SimpleQueue()

    @hookimpl
    def prefill(self, batch: PrefillBatch) -> PrefillOutput:
        self.computed.put("prefill")
        return super().prefill(batch)

    @hookimpl
    def decode(self, batch: DecodeBatch) -> DecodeOutput:
        self.computed.put("decode")
        self.held.set()
        assert self.let_go.wait(SECONDS)
        if self.fails:
            raise RuntimeError("told to fail")
        return super().decode(batch)


class Bench:
    """An engine on that device."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.device = Device()
        self.metrics = Metrics(LIMITS.prefill_tokens, LIMITS.context, LIMITS.rows)
        self.outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self.engine = Engine(
            lambda: Hooks("arithmetic", self.device, MODEL, LIMITS),
            self._deliver,
            300.0,
            self.metrics,
            lambda: self.now,
        )

    def pass_time(self, seconds: float) -> None:
        """Move the clock on, and let the device thread look at it."""
        self.now += seconds
        self.turn()

    def turn(self) -> None:
        """Wait until the device thread is done with what it was at."""
        self.engine.call(_nothing).result(SECONDS)

    def computed(self) -> list[str]:
        """The next two hooks that compute, which are waited for."""
        return [self.device.computed.get(timeout=SECONDS) for _ in range(2)]

    def forget(self) -> None:
        """Ask no more for what was computed so far."""
        while not self.device.computed.empty():
            self.device.computed.get()

    def nothing_computed(self) -> bool:
        """Whether the device thread finds nothing to compute."""
        self.turn()
        self.turn()
        return self.device.computed.empty()

    def reply(self, prompt: Sequence[int]) -> Outcome:
        """Have a row of one token computed; return what is heard of it."""
        self.engine.submit(row(prompt, 1))
        return self.outcomes.get(timeout=SECONDS)

    def _deliver(self, outcomes: Sequence[tuple[Row, Outcome]]) -> None:
        for _, outcome in outcomes:
            self.outcomes.put(outcome)


def _nothing(_hooks: Hooks, _leases: Leases) -> None:
    """Only takes its turn."""


@contextmanager
def bench() -> Iterator[Bench]:
    """One that serves; ended after."""
    bench = Bench()
    bench.engine.start()
    try:
        bench.engine.loaded.result(SECONDS)
        yield bench
    finally:
        bench.device.let_go.set()
        bench.engine.stop()
        assert not bench.engine.is_running


def test_idle_device_is_tried() -> None:
    """Every so often, by a prompt and a step; no row is held before, while or after."""
    with bench() as served:
        served.pass_time(PROBE_SECONDS - 1)
        assert served.nothing_computed()
        for _ in range(2):
            served.pass_time(PROBE_SECONDS)
            assert served.computed() == ["prefill", "decode"]
            assert served.nothing_computed()
        assert served.engine.report() == Health(Readiness.READY)


def test_no_metric_counts_it() -> None:
    """But for the time that passed, a scrape is what it was."""
    with bench() as served:
        before = read_scrape(served.metrics.exposition())
        served.pass_time(PROBE_SECONDS)
        served.computed()
        served.turn()
        assert read_scrape(served.metrics.exposition()) == before


def _request(served: Bench) -> object:
    return served.reply([1, 500])


def _step_operation(served: Bench, number: int = 0) -> object:
    rows = [(number, row([1, 500 + number]))]
    return served.engine.call(lambda _hooks, leases: leases.prefill(rows)).result(SECONDS)


@pytest.mark.parametrize("compute", [_request, _step_operation])
def test_work_puts_it_off(compute: Callable[[Bench], object]) -> None:
    """It shows as well that the device computes."""
    with bench() as served:
        served.pass_time(PROBE_SECONDS - 1)
        compute(served)
        assert served.device.computed.get(timeout=SECONDS) == "prefill"
        served.pass_time(PROBE_SECONDS - 1)
        assert served.nothing_computed()


def test_failure_is_told_until_the_device_computes_again(caplog: pytest.LogCaptureFixture) -> None:
    """Soon tried again; requests are let through meanwhile, and one that succeeds will do too."""
    with bench() as served:
        for heal in (lambda: served.pass_time(AGAIN_SECONDS), lambda: served.reply([1, 500])):
            served.device.fails = True
            served.pass_time(PROBE_SECONDS)
            served.computed()
            served.turn()
            told = served.engine.report()
            assert told.readiness is Readiness.FAILED
            assert told.message.startswith("the device fails: backend arithmetic failed in decode")
            served.reply([1, FAILS])  # proves nothing
            assert served.engine.report() == told
            served.device.fails = False
            served.forget()
            heal()
            served.device.computed.get(timeout=SECONDS)
            while served.engine.report().readiness is Readiness.FAILED:
                served.turn()
            served.forget()
    assert "the idle device was tried and failed" in caplog.text


def test_hanging_device_shows() -> None:
    """Health answers meanwhile, and tells for how long it hangs."""
    with bench() as served:
        served.device.let_go.clear()
        served.device.held.clear()
        served.pass_time(PROBE_SECONDS)
        assert served.device.held.wait(SECONDS)
        served.now += 75
        assert served.engine.report().busy_seconds == 75
        served.device.let_go.set()
        assert served.computed() == ["prefill", "decode"]
        served.turn()
        assert served.engine.report().readiness is Readiness.READY


def test_request_that_comes_meanwhile_goes_first() -> None:
    """The step that would follow the prompt is left out."""
    with bench() as served:
        prefill = served.device.prefill
        commands: list[object] = []

        def prefill_slowly(batch: PrefillBatch) -> PrefillOutput:
            if not commands:
                commands.append(served.engine.call(_nothing))
            return prefill(batch)

        hooks = served.engine.prepared.hooks
        hooks.prefill = prefill_slowly  # type: ignore[method-assign]
        served.pass_time(PROBE_SECONDS)
        assert served.device.computed.get(timeout=SECONDS) == "prefill"
        assert served.nothing_computed()
        assert len(commands) == 1


def test_without_a_free_slot_it_is_put_off() -> None:
    """Whoever leased them all steps by hand."""
    with bench() as served:
        for number in range(LIMITS.rows):
            _step_operation(served, number)
            served.device.computed.get(timeout=SECONDS)
        served.pass_time(PROBE_SECONDS)
        assert served.nothing_computed()
        served.engine.call(lambda _hooks, leases: leases.release(None)).result(SECONDS)
        served.pass_time(PROBE_SECONDS - 1)
        assert served.nothing_computed()
        served.pass_time(1)
        assert served.computed() == ["prefill", "decode"]


def test_health_of_a_device_at_work() -> None:
    """Busy for as long as the step takes, idle after; the rest is told at once."""
    with bench() as served:
        assert served.engine.report().busy_seconds == 0
        held, go_on = threading.Event(), threading.Event()

        def wait(_hooks: Hooks, _leases: Leases) -> None:
            held.set()
            assert go_on.wait(SECONDS)

        working = served.engine.call(wait)
        assert held.wait(SECONDS)
        served.now += 7
        assert served.engine.report() == Health(Readiness.READY, busy_seconds=7)
        go_on.set()
        working.result(SECONDS)
        while served.engine.report().busy_seconds:
            served.turn()
