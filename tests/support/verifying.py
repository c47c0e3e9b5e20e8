"""`runtime verify` within one process: backends of a test, and an oracle that computes each reference once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from runtime.backend import Limits, ModelSpec, ShapePlan
from runtime.budgets import Budgets
from runtime.plugins import Hooks
from runtime.shapes import Ladders, plan_shapes
from runtime.static.backend import StaticBackend
from runtime.static.device import Host
from runtime.static.graphs import GraphRunner, PlainRunner
from runtime.static.kernels import TorchStaticKernels
from runtime.verify.cases import MEANINGS
from runtime.verify.run import Outcome, Role, Task, Tell, perform
from runtime.verify.verification import Finding, Question, verify
from runtime_cpu_reference.backend import CpuReference
from runtime_torch.cpu import Cpu

LIMITS = Limits(rows=4, context=256, prefill_rows=3, prefill_tokens=240)
CACHE = 2**20

Make = Callable[[ModelSpec, Limits, torch.dtype], Any]


def static(model: ModelSpec, limits: Limits, dtype: torch.dtype, runner: GraphRunner | None = None) -> StaticBackend:
    """The toolkit on plain torch; an unknown shape is an error."""
    device = Host()
    return StaticBackend(
        model, limits, dtype, device, TorchStaticKernels(), runner or PlainRunner(device), CACHE, strict=True
    )


def cpu(model: ModelSpec, limits: Limits, dtype: torch.dtype) -> Cpu:
    """The backend of any shape."""
    return Cpu(model, limits, dtype, CACHE)


def plan_of(model: ModelSpec) -> ShapePlan:
    return plan_shapes(model, LIMITS, Budgets.of(LIMITS), Ladders.exponential(64, 2, 3), resumes=True)


@dataclass
class Verifier:
    """Verifies any number of backends of one model."""

    model: ModelSpec
    folder: Path
    """Where references are kept."""
    seed: int = 0
    known: dict[Any, Outcome] = field(default_factory=dict)

    def verify(
        self, make: Make, dtype: torch.dtype, *, cases: tuple[str, ...] = tuple(MEANINGS), **more: Any
    ) -> Finding:
        """Verify what `make` loads; one named `cpu` gets batches of any shape, another those of a plan."""
        plan = None if make is cpu else plan_of(self.model)

        def run(task: Task, tell: Tell) -> Outcome:
            if task.role is Role.TESTED:
                return perform(
                    task, Hooks("tested", make(self.model, task.limits, dtype), self.model, task.limits), tell
                )
            return self.oracle(task, tell)

        question = Question(
            "tested", "oracle", self.model, LIMITS, {"reference_dtype": None}, 240, plan, cases, seed=self.seed, **more
        )
        return verify(question, run, lambda progress: None)

    def oracle(self, task: Task, tell: Tell) -> Outcome:
        """Compute a reference or its noise, or remember it."""
        dtype = str(task.limits.options["reference_dtype"])
        key = (task.role, dtype, task.cases, task.layers, task.plan is None)
        kept = self.folder / f"{abs(hash(key))}"
        if key not in self.known:
            oracle = CpuReference(task.model, task.limits, getattr(torch, dtype))
            self.known[key] = perform(task, Hooks("oracle", oracle, task.model, task.limits), tell)
            if task.role is Role.REFERENCE:
                shutil.copytree(task.folder, kept)
        elif task.role is Role.REFERENCE:
            shutil.copytree(kept, task.folder, dirs_exist_ok=True)
        return self.known[key]
