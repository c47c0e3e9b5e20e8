"""The plugin that docs/backends.md shows works as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from runtime.model import read_model
from runtime.plugins import Hooks, backend_named
from runtime_cpu_reference.backend import CpuReference
from support.checkpoints import Checkpoint, write_checkpoint
from support.driver import LIMITS, Driver, Prompt
from support.plugin import install_plugin

ROOT = Path(__file__).resolve().parents[2]


def test_example_computes_what_the_oracle_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found through its entry point, its greedy tokens are those of the reference, through every required hook."""
    (source,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "backends.md").read_text(), re.DOTALL)
    monkeypatch.syspath_prepend(str(install_plugin(tmp_path / "plugin", "recompute", "runtime_recompute", source)))
    model = read_model(write_checkpoint(tmp_path / "model", Checkpoint("MistralForCausalLM")))
    spec = backend_named("recompute").spec
    assert spec is not None
    replies = []
    for backend in (Hooks("recompute", spec.load(model, LIMITS), model, LIMITS), CpuReference(model, LIMITS)):
        driver = Driver(backend)
        driver.join({0: Prompt(torch.tensor([1, 40, 500, 77]), None), 2: Prompt(torch.tensor([1, 9]), None)})
        for _ in range(6):
            driver.step()
        replies.append(driver.replies)
    assert replies[0] == replies[1]
