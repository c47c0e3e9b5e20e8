"""The `cpu` backend against the oracle."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from runtime.backend import Limits
from runtime.model import read_model
from runtime_cpu_reference.backend import CpuReference
from runtime_torch.cpu import Cpu
from support.agreement import GEOMETRIES, NOISE, Agreement
from support.checkpoints import DEMO, write_checkpoint

LIMITS = Limits(rows=4, context=384, prefill_rows=3, prefill_tokens=360)
CACHE = 2**20

Pair = tuple[Cpu, CpuReference]


@pytest.fixture(scope="module", params=[*GEOMETRIES, "demo"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """The backend in fp32 and the oracle, loaded from the same folder."""
    folder = DEMO
    if request.param in GEOMETRIES:
        folder = write_checkpoint(tmp_path_factory.mktemp("model"), GEOMETRIES[request.param])
    model = read_model(folder)
    yield Cpu(model, LIMITS, torch.float32, CACHE), CpuReference(model, LIMITS)


@pytest.mark.parametrize("seed", range(3))
def test_greedy_tokens_are_the_oracle_s(pair: Pair, seed: int) -> None:
    """In fp32, whatever joins, leaves, waits or is computed in parts."""
    cpu, oracle = pair
    agreement = Agreement(oracle.model, LIMITS, cpu, oracle, seed, resumes=True)
    agreement.run(steps=40)
    assert max(agreement.differences) < NOISE
