"""From a backend that is not loaded to one that serves: load it, plan its shapes, warm them up, and ask what is left.

On the device thread, as everything that touches the backend. Only a backend of static shapes gets a plan and a
warm-up; for the others this is loading.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from runtime.backend import Capacity, Limits, ShapePlan, WarmupProgress
from runtime.batches import AnyShapes, ShapeLookup
from runtime.budgets import ANY_SHAPE, Budgets, Shapes
from runtime.errors import BackendError, BackendRefused, NotReady
from runtime.plugins import Hooks
from runtime.runtime import Health, Readiness
from runtime.shapes import PlannedShapes, subplan
from runtime.telemetry.metrics import Metrics
from runtime.telemetry.warmup import shown_warmup
from runtime.warming import Stage, Warming

Planner = Callable[[Limits, Budgets, bool], ShapePlan]
"""Limits, budgets, and whether the backend resumes -> every shape it will see."""

REMEDY: Final = (
    "the log above has the cause; lower --max-batch-prefill-tokens or --max-batch-size, or start with "
    "--no-warmup-enabled"
)

log = logging.getLogger(__name__)


class Interrupted(NotReady):
    """The server was told to stop before it was ready."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A backend that can serve, and what it affords."""

    hooks: Hooks
    capacity: Capacity
    limits: Limits
    budgets: Budgets
    plan: ShapePlan
    shapes: ShapeLookup
    """What batches are padded to."""
    admitted: Shapes
    """What may be computed together, of that."""


class WarmupState(Enum):
    """What became of the warm-up."""

    RUNNING = "running"
    DONE = "done"
    SKIPPED = "skipped"
    FAILED = "failed"


class Preparation:
    """Prepares one backend."""

    def __init__(
        self,
        load: Callable[[], Hooks],
        budgets: Budgets | None,
        plan: Planner | None,
        warm_up: bool,
        metrics: Metrics,
        clock: Callable[[], float],
        tell: Callable[[Health], None],
        apart: bool = False,
    ) -> None:
        """`plan` is None for a backend that takes any shape; `tell` hears how far the warm-up at the start is.

        With `apart` each row of a backend that takes any shape decodes by itself.
        """
        self._apart = apart
        self._load = load
        self._budgets = budgets
        self._plan = plan
        self._warm_up = warm_up
        self._metrics = metrics
        self._clock = clock
        self._tell = tell
        self._interrupted = threading.Event()
        self._stage = Stage(0, 0)
        self.facts: Mapping[str, str] = {}
        """For operators: plan, warm-up, capacity, and what the backend tells. Replaced, never changed, so that any
        thread may read it."""

    def run(self) -> Prepared:
        """Return the backend, loaded and warm.

        Raises what `load` raises, StartupError for a plan that is too large, BackendRefused for a warm-up that fails,
        and Interrupted.
        """
        hooks = self._load()
        capacity = hooks.capacity()
        self.facts = capacity.details
        if self._plan is None:
            return self._prepared(hooks, capacity, ShapePlan())
        limits = replace(hooks.limits, rows=capacity.rows, context=capacity.context)
        plan = self._plan(limits, self._budgets or Budgets.of(limits), capacity.resumes)
        prepared = self._prepared(hooks, replace(capacity, rows=_most_rows(plan, capacity.rows)), plan)
        log.info("planned %d shapes: %s", _count(plan), _kinds(plan))
        if self._warm_up:
            return self._warmed_at_start(prepared)
        log.warning(
            "the warm-up is off (--no-warmup-enabled): each of %d shapes is met for the first time in service, and the "
            "requests of that moment wait until it is ready",
            _count(plan),
        )
        self._record(WarmupState.SKIPPED, Stage(0, _count(plan)), prepared)
        return prepared

    def warm(self, prepared: Prepared, tell: Callable[[WarmupProgress], None]) -> Prepared:
        """Run the warm-up; return what the backend affords after it, which may be fewer rows.

        `tell` is called after each shape. Raises BackendError and BackendRefused, and Interrupted at the next shape
        after `interrupt`.
        """
        warming = Warming(_count(prepared.plan), self._clock)

        def advance(progress: WarmupProgress) -> None:
            if self._interrupted.is_set():
                raise Interrupted("the server is stopping")
            self._record(WarmupState.RUNNING, warming.advance(progress), prepared)
            tell(progress)

        try:
            prepared.hooks.warmup(prepared.plan, advance)
            warmed = self._afforded(prepared)
        except Exception:
            self._record(WarmupState.FAILED, warming.stage, prepared)
            raise
        self._record(WarmupState.DONE, warming.stage, warmed)
        return warmed

    def interrupt(self) -> None:
        """End a warm-up at its next shape; may be called from any thread."""
        self._interrupted.set()

    def _warmed_at_start(self, prepared: Prepared) -> Prepared:
        """Warm up while the health tells how far it is; BackendRefused when that fails."""
        self._record(WarmupState.RUNNING, Stage(0, _count(prepared.plan)), prepared)
        with shown_warmup(self._clock) as show:

            def tell() -> None:
                stage = self._stage
                self._tell(Health(Readiness.WARMING, f"warming up: {stage}", seconds_left=stage.seconds_left))
                show(stage.done, stage.total, str(stage))

            tell()
            try:
                warmed = self.warm(prepared, lambda _progress: tell())
            except (BackendError, BackendRefused) as error:
                reason = error.message if isinstance(error, BackendRefused) else REMEDY
                name, place = prepared.hooks.name, self._stage.place
                raise BackendRefused(f"backend {name} failed in its warm-up, at {place}: {reason}") from error
        stage = self._stage
        log.info("warmed %d of %d shapes in %.1f s", stage.done, stage.total, stage.seconds)
        return warmed

    def _afforded(self, prepared: Prepared) -> Prepared:
        """Ask for the capacity again, and cut the plan to it."""
        hooks, before, after = prepared.hooks, prepared.capacity, prepared.hooks.capacity()
        if after.context < before.context:
            raise BackendRefused(
                f"after the warm-up a row holds {after.context} tokens, not {before.context}: lower --max-total-tokens"
            )
        plan = subplan(prepared.plan, after.rows)
        if prepared.plan.decode and not plan.decode:
            fewest = min(shape.rows for shape in prepared.plan.decode)
            raise BackendRefused(
                f"after the warm-up there is room for {after.rows} rows, and decode steps take {fewest} or more: lower "
                "--batch-bucket-size, --max-total-tokens or --max-batch-prefill-tokens"
            )
        rows = _most_rows(plan, after.rows)
        if rows >= before.rows:
            return prepared
        log.warning(
            "after the warm-up there is room for %d rows x %d tokens, not %d rows: going on with %d rows and %d of %d "
            "shapes",
            *(after.rows, before.context, before.rows, rows, _count(plan), _count(prepared.plan)),
        )
        return self._prepared(hooks, replace(before, rows=rows), plan)

    def _prepared(self, hooks: Hooks, capacity: Capacity, plan: ShapePlan) -> Prepared:
        limits = replace(hooks.limits, rows=capacity.rows, context=capacity.context)
        budgets = self._budgets or Budgets.of(limits)
        budgets = replace(budgets, total_tokens=min(budgets.total_tokens, limits.rows * limits.context))
        if self._plan is None:
            return Prepared(hooks, capacity, limits, budgets, plan, AnyShapes(limits, self._apart), ANY_SHAPE)
        shapes = PlannedShapes(plan)
        return Prepared(hooks, capacity, limits, budgets, plan, shapes, shapes)

    def _record(self, state: WarmupState, stage: Stage, prepared: Prepared) -> None:
        """Tell metrics and facts; a backend that takes any shape has none."""
        self._stage = stage
        if self._plan is None:
            return
        plan, capacity = prepared.plan, prepared.capacity
        self.facts = {
            "warmup": state.value,
            "warmup_done": str(stage.done),
            "warmup_total": str(stage.total),
            "warmup_seconds": f"{stage.seconds:.1f}",
            "plan_prefill_shapes": str(len(plan.prefill)),
            "plan_vision_shapes": str(len(plan.vision)),
            "plan_decode_shapes": str(len(plan.decode)),
            "capacity_rows": str(capacity.rows),
            "capacity_context": str(capacity.context),
            **capacity.details,
        }
        self._metrics.tell_warmup(stage.done, stage.total, stage.seconds)


def _count(plan: ShapePlan) -> int:
    return len(plan.prefill) + len(plan.vision) + len(plan.decode)


def _kinds(plan: ShapePlan) -> str:
    return f"{len(plan.prefill)} prefill, {len(plan.vision)} picture, {len(plan.decode)} decode"


def _most_rows(plan: ShapePlan, rows: int) -> int:
    """Return how many of the rows there are a decode step has a shape for: all, when none is ever computed."""
    return max((shape.rows for shape in plan.decode), default=rows)
