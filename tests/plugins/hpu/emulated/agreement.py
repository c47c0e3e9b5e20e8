"""On the virtual device: the backend against the oracle."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable

import pytest
import torch
from runtime.backend import ModelSpec
from runtime.model import read_model
from runtime.shapes import PlannedShapes
from runtime_cpu_reference.backend import CpuReference
from support.agreement import GEOMETRIES, NOISE, padded
from support.checkpoints import DEMO, write_checkpoint
from support.hpu import LIMITS, MODES, QUIET, agreement, loaded, plan_of
from support.static import ignore
from virtual_device import counters

pytestmark = QUIET
AS_THE_ORACLE = 1.25
"""How many times the oracle's own rounding to bf16 ours may be: it rounds in other places, but no oftener."""
IS_MIDDLE = os.environ["VIRTUAL_HPU_RELEASE"] == "1.19"
IS_WHOLE = IS_MIDDLE and MODES[0] == "lazy"
"""Whether this is the profile that several models are tried on."""
SEVERAL = ("grouped heads", "one key head, tied", "other tiles", "text, llama")
CASES = [(name, mode, True) for name in (SEVERAL if IS_WHOLE else SEVERAL[1:2]) for mode in MODES]
PLAIN = [("demo", MODES[-1], False)] if IS_MIDDLE else []
"""With stock PyTorch's attention."""


@pytest.fixture(scope="module")
def find(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], ModelSpec]:
    """Makes a model: the bundled one or one of random weights."""

    def by_name(name: str) -> ModelSpec:
        if name == "demo":
            return read_model(DEMO)
        return read_model(write_checkpoint(tmp_path_factory.mktemp("model"), GEOMETRIES[name]))

    return by_name


@pytest.mark.parametrize(("name", "mode", "flash"), [*CASES, *PLAIN])
def test_greedy_tokens_are_the_oracle_s(name: str, mode: str, flash: bool, find: Callable[[str], ModelSpec]) -> None:
    """In fp32, whatever joins, leaves, waits, is padded or computed in parts; and all is prepared before."""
    model = find(name)
    plan = plan_of(model)
    backend = loaded(model, hpu_mode=mode, use_flash_attention=flash)
    backend.warmup(plan, ignore)
    before = counters.snapshot()
    traffic = agreement(backend, model, 0, plan)
    traffic.run(steps=30)
    spent = counters.snapshot() - before
    assert max(traffic.differences) < NOISE
    assert (spent.captures.total(), spent.compilations, spent.cpu_fallbacks.total()) == (0, 0, 0)


@pytest.mark.parametrize(("name", "flash"), [("demo", True), *([("grouped heads", False)] if IS_WHOLE else [])])
def test_bf16_is_as_exact_as_the_oracle_in_bf16(name: str, flash: bool, find: Callable[[str], ModelSpec]) -> None:
    """The mean error of the logits against fp32 is that of rounding, as transformers rounds."""
    model = find(name)
    oracle = CpuReference(model, LIMITS)
    rounded = copy.copy(oracle)
    rounded.net = copy.deepcopy(oracle.net).bfloat16()
    backend = loaded(model, dtype="bfloat16", hpu_mode=MODES[-1], use_flash_attention=flash)
    plan = plan_of(model)
    shapes = PlannedShapes(plan)
    traffic = agreement(backend, model, 0, plan)
    squares = torch.zeros(2, dtype=torch.float64)
    for _ in range(6):
        prompt = traffic.prompt()
        batch = traffic.batch([prompt], [0], [0], [len(prompt.tokens)])
        exact = oracle.prefill(batch).logits
        ours = backend.prefill(padded(batch, shapes)).logits[:1].float()
        errors = [ours - exact, rounded.prefill(batch).logits.float() - exact]
        squares += torch.stack([error.double().square().mean() / exact.double().var() for error in errors])
    ours_error, its_error = squares.sqrt().tolist()
    assert 0 < ours_error <= AS_THE_ORACLE * its_error
