"""Broken backends are found, each at the stage where its mistake begins; right ones pass. See `make verify-faults`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from runtime.model import read_model
from support.checkpoints import Checkpoint, write_checkpoint
from support.faults import FAULTS, load
from support.verifying import Make, Verifier, cpu, static


@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault.often])
def test_fault_is_found(name: str, verifier: Verifier, monkeypatch: pytest.MonkeyPatch) -> None:
    """And named by its stage, down to the layer."""
    fault = FAULTS[name]
    fault.make(monkeypatch)
    verdict = verifier.verify(load, fault.dtype).verdict
    assert verdict.first is not None
    assert verdict.first.stage == fault.stage
    assert not verdict.ok


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("make", [cpu, static])
def test_right_backend_passes(make: Make, dtype: torch.dtype, verifier: Verifier) -> None:
    """In either type: every case is run, every stage told, and the noise is of the backend's type."""
    finding = verifier.verify(make, dtype)
    assert finding.verdict.first is None
    assert finding.verdict.ok
    assert finding.dtype == str(dtype).removeprefix("torch.")
    assert finding.tells_stages
    assert [case.left_out + case.failed for case in finding.verdict.cases] == [""] * 10
    assert all(case.agreed + len(case.flips) == case.compared > 0 for case in finding.verdict.cases)


def test_right_backend_passes_in_half_precision(verifier: Verifier) -> None:
    """float16 has a noise of its own."""
    finding = verifier.verify(static, torch.float16, cases=("text", "one-picture"))
    assert finding.verdict.ok
    assert (finding.dtype, finding.noise_dtype) == ("float16", "float16")


@pytest.mark.parametrize("seed", [101, 102])
def test_right_backend_of_another_model_passes(seed: int, tmp_path: Path) -> None:
    """In the type with most noise; more seeds are in docs/verify.md."""
    folder = write_checkpoint(tmp_path / "model", Checkpoint(seed=seed, kv_heads=1, tied=True, feature_layer=-1))
    verifier = Verifier(read_model(folder), tmp_path / "references", seed)
    assert verifier.verify(static, torch.bfloat16).verdict.ok
