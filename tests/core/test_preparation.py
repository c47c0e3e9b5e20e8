"""A backend is loaded, planned for and warmed, on the thread of the test."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from runtime.backend import Capacity, DecodeShape, Limits, PrefillShape, Shape, ShapePlan, WarmupProgress
from runtime.batches import AnyShapes
from runtime.budgets import ANY_SHAPE, Budgets
from runtime.errors import BackendRefused, StartupError
from runtime.hookspecs import hookimpl
from runtime.plugins import Hooks
from runtime.preparation import Interrupted, Planner, Preparation
from runtime.runtime import Health, Readiness
from runtime.shapes import Ladders, PlannedShapes, subplan
from runtime.telemetry.metrics import Metrics
from runtime.warming import shape_text
from support.arithmetic import ArithmeticBackend
from support.planned import PlannedBackend, planner
from support.scrape import read_scrape
from support.serving import LIMITS, MODEL

# LIMITS are 4 rows of 64 tokens, and prefills of 2 rows of 48. In steps of 16 tokens, 1 prompt and 2 rows these are
# 2 x 3 prefills; with what is held already, 0 to 16, 32 or 47 tokens, 8 more, for 1 row of 48 tokens in all; and
# decode steps of 2 and 4 rows up to 16, 32 or 63 tokens.
PLAN = planner()
PREFILLS = 6
DECODES = 6


class Prepared:
    """A preparation and what it told."""

    def __init__(
        self,
        backend: Any,
        plan: Planner | None = PLAN,
        warm_up: bool = True,
        budgets: Budgets | None = None,
        limits: Limits = LIMITS,
    ) -> None:
        self.health: list[Health] = []
        self.metrics = Metrics(48, 64, 4)
        self.preparation = Preparation(
            lambda: Hooks("planned", backend, MODEL, limits),
            budgets,
            plan,
            warm_up,
            self.metrics,
            lambda: float(len(getattr(backend, "warmed", ()))),  # a second for each shape
            self.health.append,
        )

    def run(self) -> Any:
        self.result = self.preparation.run()
        return self.result

    @property
    def shapes(self) -> dict[str, float]:
        """Of the scrape, by state."""
        return read_scrape(self.metrics.exposition())["runtime_warmup_shapes"].values

    @property
    def facts(self) -> dict[str, str]:
        return dict(self.preparation.facts)


def test_backend_of_any_shape() -> None:
    """It is loaded and no more: no plan, no warm-up, nothing to tell."""

    class Warm(ArithmeticBackend):
        @hookimpl
        def warmup(self, plan: ShapePlan, progress: Callable[[WarmupProgress], None]) -> None:
            raise AssertionError("there is nothing to warm")

    prepared = Prepared(Warm(MODEL.vocabulary, LIMITS), plan=None)
    result = prepared.run()
    assert isinstance(result.shapes, AnyShapes)
    assert (result.admitted, result.plan, result.limits) == (ANY_SHAPE, ShapePlan(), LIMITS)
    assert (prepared.health, prepared.facts, prepared.shapes) == ([], {}, {"warmed": 0, "left": 0})


def test_every_shape_is_warmed_and_told(caplog: pytest.LogCaptureFixture) -> None:
    """Health, facts, metrics and log; the plan is that of the limits."""
    backend = PlannedBackend()
    prepared = Prepared(backend)
    with caplog.at_level(logging.INFO):
        result = prepared.run()
    plan = result.plan
    total = len(plan.prefill) + len(plan.vision) + len(plan.decode)
    assert len([shape for shape in plan.prefill if not shape.cached]) == PREFILLS
    assert (len(plan.decode), plan.vision) == (DECODES, ())  # no picture of the demo model has so few tokens
    assert {*backend.warmed} == {*plan.prefill, *plan.decode}
    assert isinstance(result.shapes, PlannedShapes)
    assert result.admitted is result.shapes
    assert {health.readiness for health in prepared.health} == {Readiness.WARMING}
    assert [health.message for health in prepared.health[:3]] == [
        f"warming up: 0 of {total} shapes",
        f"warming up: 1 of {total} shapes, {shape_text(backend.warmed[0])} done, about {total - 1} s left",
        f"warming up: 2 of {total} shapes, {shape_text(backend.warmed[1])} done, about {total - 2} s left",
    ]
    assert (
        prepared.health[-1].message == f"warming up: {total} of {total} shapes, {shape_text(backend.warmed[-1])} done"
    )
    assert prepared.facts == {
        "warmup": "done",
        "warmup_done": str(total),
        "warmup_total": str(total),
        "warmup_seconds": f"{total}.0",
        "plan_prefill_shapes": str(len(plan.prefill)),
        "plan_vision_shapes": "0",
        "plan_decode_shapes": str(DECODES),
        "capacity_rows": "4",
        "capacity_context": "64",
    }
    assert prepared.shapes == {"warmed": total, "left": 0}
    assert read_scrape(prepared.metrics.exposition())["runtime_warmup_seconds"].values == {"": total}
    assert caplog.messages[0] == f"planned {total} shapes: {len(plan.prefill)} prefill, 0 picture, {DECODES} decode"
    assert caplog.messages[-1] == f"warmed {total} of {total} shapes in {total}.0 s"


@pytest.mark.parametrize("plan", [PLAN, None], ids=["static", "any shape"])
def test_what_the_backend_tells_is_among_the_facts(plan: Planner | None) -> None:
    """From when it is loaded on."""

    class Talkative(PlannedBackend):
        @hookimpl
        def capacity(self) -> Capacity:
            return replace(super().capacity(), details={"beads": "wooden"})

    prepared = Prepared(Talkative(), plan)
    prepared.run()
    assert prepared.facts["beads"] == "wooden"
    assert ("warmup" in prepared.facts) == (plan is not None)


def test_facts_while_it_warms() -> None:
    """What /info tells meanwhile."""
    told: list[tuple[str, ...]] = []
    backend = PlannedBackend()
    prepared = Prepared(backend)
    names = ("warmup", "warmup_done", "capacity_rows")
    backend.before = lambda shape: told.append(tuple(prepared.facts[name] for name in names))
    prepared.run()
    assert told[:2] == [("running", "0", "4"), ("running", "1", "4")]


def test_no_warm_up(caplog: pytest.LogCaptureFixture) -> None:
    """One line tells what that costs."""
    backend = PlannedBackend()
    prepared = Prepared(backend, warm_up=False)
    result = prepared.run()
    total = len(result.plan.prefill) + DECODES
    assert (backend.warmed, prepared.health) == ([], [])
    assert (prepared.facts["warmup"], prepared.facts["warmup_total"]) == ("skipped", str(total))
    assert prepared.shapes == {"warmed": 0, "left": total}
    assert caplog.messages == [
        f"the warm-up is off (--no-warmup-enabled): each of {total} shapes is met for the first time in service, and "
        "the requests of that moment wait until it is ready"
    ]


def test_backend_without_the_hook(caplog: pytest.LogCaptureFixture) -> None:
    """There is nothing to warm, and it serves."""
    prepared = Prepared(ArithmeticBackend(MODEL.vocabulary, LIMITS))
    with caplog.at_level(logging.INFO):
        assert prepared.run().capacity == Capacity(4, 64)
    assert caplog.messages[-1] == f"warmed 0 of {PREFILLS + DECODES} shapes in 0.0 s"


def test_fewer_rows_after_the_warm_up(caplog: pytest.LogCaptureFixture) -> None:
    """Everything is made anew of what there is; no shape that is left was not warmed, and one line has the numbers."""
    backend = PlannedBackend(room=3)
    prepared = Prepared(backend)
    result = prepared.run()
    assert result.capacity == Capacity(2, 64, resumes=True)
    assert (result.limits.rows, result.budgets.total_tokens) == (2, 128)
    assert result.plan == subplan(backend.plan, 2)
    assert {*result.plan.prefill, *result.plan.decode} <= {*backend.warmed}
    assert (prepared.facts["capacity_rows"], prepared.facts["plan_decode_shapes"]) == ("2", "3")
    whole, left = len(backend.plan.prefill) + DECODES, len(result.plan.prefill) + DECODES // 2
    assert caplog.messages == [
        "after the warm-up there is room for 3 rows x 64 tokens, not 4 rows: going on with 2 rows and "
        f"{left} of {whole} shapes"
    ]


def test_too_few_rows_for_any_step() -> None:
    """Decode steps are padded to two rows."""
    with pytest.raises(BackendRefused) as error:
        Prepared(PlannedBackend(room=1)).run()
    assert "room for 1 rows, and decode steps take 2 or more: lower --batch-bucket-size" in error.value.message


def test_less_context_after_the_warm_up() -> None:
    """It may not shrink: requests were promised it."""

    class Shrinking(PlannedBackend):
        @hookimpl
        def capacity(self) -> Capacity:
            return Capacity(4, 63 if self.warmed else 64)

    with pytest.raises(BackendRefused, match="a row holds 63 tokens, not 64: lower --max-total-tokens"):
        Prepared(Shrinking()).run()


def test_rows_without_a_shape_are_not_used() -> None:
    """Where budgets are so small that no step takes them all."""
    budgets = Budgets(prefill_tokens=96, total_tokens=5)
    prepared = Prepared(PlannedBackend(), planner(Ladders.linear(16, 1, 1)), budgets=budgets)
    assert prepared.run().capacity.rows == max(shape.rows for shape in prepared.result.plan.decode) < 4


def fail_at(kind: type[Shape], error: Exception) -> PlannedBackend:
    """A backend whose warm-up fails at the first shape of a kind."""
    backend = PlannedBackend()

    def before(shape: Shape) -> None:
        if isinstance(shape, kind):
            raise error

    backend.before = before
    return backend


def test_warm_up_that_fails() -> None:
    """The last shape that went well and the remedy are named, in one line without the cause, which was logged."""
    prepared = Prepared(fail_at(DecodeShape, RuntimeError("secret")))
    with pytest.raises(BackendRefused) as error:
        prepared.run()
    done = int(prepared.facts["warmup_done"])
    assert error.value.message == (
        f"backend planned failed in its warm-up, at {done} of {done + DECODES} shapes, prefill 1 x 16 done: the log "
        "above has the cause; lower --max-batch-prefill-tokens or --max-batch-size, or start with --no-warmup-enabled"
    )
    assert prepared.facts["warmup"] == "failed"


def test_warm_up_that_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    """In the words of the backend, and without a traceback."""
    with pytest.raises(BackendRefused, match=r"warm-up, at 0 of 18 shapes: no room; lower --max-total-tokens$"):
        Prepared(fail_at(PrefillShape, BackendRefused("no room; lower --max-total-tokens"))).run()
    assert caplog.messages == []


def test_interrupted_at_the_next_shape() -> None:
    """The server is told to stop while the third shape is at work."""
    backend = PlannedBackend()
    prepared = Prepared(backend)
    backend.before = lambda shape: prepared.preparation.interrupt() if len(backend.warmed) == 2 else None
    with pytest.raises(Interrupted, match="the server is stopping"):
        prepared.run()
    assert len(backend.warmed) == 3


def test_plan_that_is_too_large() -> None:
    """Told before anything is warmed."""

    def plan(limits: Limits, budgets: Budgets, resumes: bool) -> ShapePlan:
        raise StartupError("more than 16384 shapes")

    with pytest.raises(StartupError, match="more than 16384 shapes"):
        Prepared(PlannedBackend(), plan).run()
