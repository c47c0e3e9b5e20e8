"""The backend of static shapes on the CPU, recorded, next to the oracle."""

from __future__ import annotations

from typing import Any

import torch
from runtime.backend import Limits, ModelSpec, ShapePlan, WarmupProgress
from runtime.budgets import Budgets
from runtime.shapes import Ladders, PlannedShapes, plan_shapes
from runtime.static.backend import StaticBackend
from runtime.static.device import Device, Host
from runtime.static.graphs import GraphRunner
from runtime.static.kernels import TorchStaticKernels
from runtime_cpu_reference.backend import CpuReference
from support.agreement import Agreement
from support.recorded import RecordedRunner

LIMITS = Limits(rows=4, context=384, prefill_rows=3, prefill_tokens=360)
LADDERS = {"every row": Ladders.linear(64, 1, 1), "few shapes": Ladders.exponential(128, 2, 3)}
CACHE = 2**20


def ignore(progress: WarmupProgress) -> None:
    """Nobody watches."""


def plan_of(model: ModelSpec, ladders: str = "few shapes", limits: Limits = LIMITS) -> ShapePlan:
    return plan_shapes(model, limits, Budgets.of(limits), LADDERS[ladders], resumes=True)


class Spoiled(StaticBackend):
    """Fills the scratch with what is no number before every step, so that it shows wherever it is read."""

    def prefill(self, batch: Any) -> Any:
        self.spoil()
        return super().prefill(batch)

    def decode(self, batch: Any) -> Any:
        self.spoil()
        return super().decode(batch)

    @torch.inference_mode()
    def spoil(self) -> None:
        cache = self._attention.cache
        for buffer in (*cache._keys, *cache._values):
            buffer[cache.scratch] = float("nan")
        if self._pictures is not None:
            self._pictures._vectors[-1:] = float("nan")


def loaded(
    model: ModelSpec,
    *,
    limits: Limits = LIMITS,
    device: Device | None = None,
    runner: GraphRunner | None = None,
    cache_bytes: int = CACHE,
    graph_share: float = 0.0,
    strict: bool = True,
) -> StaticBackend:
    device = device or Host()
    runner = runner or RecordedRunner()
    kernels = TorchStaticKernels()
    return Spoiled(model, limits, torch.float32, device, kernels, runner, cache_bytes, graph_share, strict)


def agreement(
    backend: StaticBackend, model: ModelSpec, seed: int, plan: ShapePlan, limits: Limits = LIMITS
) -> Agreement:
    oracle = CpuReference(model, limits)
    return Agreement(model, limits, backend, oracle, seed, resumes=True, shapes=PlannedShapes(plan))
