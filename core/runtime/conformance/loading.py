"""A backend, loaded and warm, as core would prepare it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from runtime.backend import Capacity, Limits, ModelSpec, Shape, ShapePlan, WarmupProgress
from runtime.batches import AnyShapes
from runtime.budgets import Budgets
from runtime.conformance.driver import Driver
from runtime.errors import BackendContractError, BackendRefused
from runtime.knobs import Value
from runtime.plugins import FoundBackend, Hooks
from runtime.shapes import Ladders, PlannedShapes, plan_shapes, subplan

LIMITS: Final = Limits(rows=4, context=384, prefill_rows=3, prefill_tokens=380)
"""Room for every prompt of the kit."""
LADDERS: Final = Ladders.exponential(128, 2, 2)
"""Few shapes, so that a warm-up is short."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A backend that can compute."""

    hooks: Hooks
    driver: Driver
    limits: Limits
    capacity: Capacity
    """What it claimed before the warm-up; the limits, where it claimed more."""
    overclaimed: str
    """What was wrong with that claim; empty when it was right."""
    plan: ShapePlan
    """What it was warmed with; empty for a backend that takes any shape."""
    warmed: Sequence[Shape]
    """What it told the progress of."""

    @property
    def is_static(self) -> bool:
        """Whether it gets planned shapes only."""
        return bool(self.plan.decode)


def load(found: FoundBackend, model: ModelSpec, limits: Limits, options: Mapping[str, Value]) -> Loaded:
    """Load a backend and run its warm-up; raises what it raises, and BackendRefused when too little is afforded."""
    assert found.spec is not None
    limits = replace(limits, options=options)
    hooks = Hooks(found.name, found.spec.load(model, limits), model, limits)
    capacity, overclaimed = _claimed(hooks, limits)
    if not found.spec.static_shapes:
        driver = Driver(hooks, AnyShapes(limits), limits.prefill_rows)
        return _enough(Loaded(hooks, driver, limits, capacity, overclaimed, ShapePlan(), ()))
    plan = plan_shapes(model, limits, Budgets.of(limits), LADDERS, capacity.resumes)
    warmed: list[WarmupProgress] = []
    hooks.warmup(plan, warmed.append)
    plan = subplan(plan, _claimed(hooks, limits)[0].rows)
    driver = Driver(hooks, PlannedShapes(plan), limits.prefill_rows)
    shapes = [progress.shape for progress in warmed]
    return _enough(Loaded(hooks, driver, limits, capacity, overclaimed, plan, shapes))


def _claimed(hooks: Hooks, limits: Limits) -> tuple[Capacity, str]:
    try:
        return hooks.capacity(), ""
    except BackendContractError as error:
        return Capacity(limits.rows, limits.context), error.message


def _enough(loaded: Loaded) -> Loaded:
    """Return it; BackendRefused when it affords less than the kit needs."""
    afforded, limits = _claimed(loaded.hooks, loaded.limits)[0], loaded.limits
    if (afforded.rows, afforded.context) != (limits.rows, limits.context):
        raise BackendRefused(
            f"it affords {afforded.rows} rows of {afforded.context} tokens, and the kit needs {limits.rows} rows of "
            f"{limits.context}: free some memory of the device"
        )
    return loaded
