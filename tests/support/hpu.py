"""The backend `hpu` on the virtual device, for files that run in a process of its own."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import pytest
import runtime_hpu
from runtime.backend import Limits, ModelSpec, ShapePlan
from runtime.budgets import Budgets
from runtime.shapes import Ladders, PlannedShapes, plan_shapes
from runtime.static.backend import StaticBackend
from runtime_cpu_reference.backend import CpuReference
from runtime_hpu.options import OPTIONS
from support.agreement import Agreement

LIMITS = Limits(rows=4, context=384, prefill_rows=2, prefill_tokens=360)
FEW = Ladders.exponential(360, 2, 4)
DEFAULTS: dict[str, Any] = {option.name: option.default for option in OPTIONS}
FLASH = {"use_flash_attention": True, "flash_attention_recompute": True}
MODES = ("lazy",) if os.environ.get("PT_HPU_LAZY_MODE") == "1" else ("compile", "eager")
"""Those that this process may be in."""
QUIET = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
"""What the compiler of PyTorch itself says of the vendor's autograd functions."""


def loaded(model: ModelSpec, limits: Limits = LIMITS, **options: Any) -> StaticBackend:
    """The backend, as the server loads it; computes in fp32, in which it must agree, unless told otherwise."""
    given = {**DEFAULTS, "dtype": "float32", "hpu_mode": MODES[0], **options}
    backend = runtime_hpu.load(model, replace(limits, options=given))
    assert isinstance(backend, StaticBackend)
    backend._graphs._strict = True
    return backend


def plan_of(model: ModelSpec, limits: Limits = LIMITS, ladders: Ladders = FEW) -> ShapePlan:
    return plan_shapes(model, limits, Budgets.of(limits), ladders, resumes=True)


def agreement(
    backend: StaticBackend, model: ModelSpec, seed: int, plan: ShapePlan, limits: Limits = LIMITS
) -> Agreement:
    oracle = CpuReference(model, limits)
    return Agreement(model, limits, backend, oracle, seed, resumes=True, shapes=PlannedShapes(plan))
