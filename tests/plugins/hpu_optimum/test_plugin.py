"""What the plugin declares, and what it says when something is missing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import runtime_hpu_optimum
from packaging.specifiers import SpecifierSet
from runtime.backend import CONTRACT_VERSION, BackendSpec, Limits
from runtime.errors import BackendRefused
from runtime.model import read_model
from support.checkpoints import Checkpoint, write_checkpoint

NEEDS = ["transformers<4.56.0,>=4.55.0", "accelerate<=1.10.1,>=1.7.0", "pytest<8.0.0; extra == 'tests'"]
INSTALLED = {
    "optimum-habana": "1.21.2",
    "transformers": "4.55.4",
    "accelerate": "1.10.1",
    "habana-torch-plugin": "1.23.0.695",
    "torch": "2.9.0",
}
MODULES = {"habana_frameworks", "torchvision"}


def spec() -> BackendSpec:
    """Of the only backend."""
    (found,) = runtime_hpu_optimum.runtime_backends()
    return found


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let packages of these versions, and these modules, be all that is installed."""

    def settle(modules: set[str] = MODULES, **versions: str | None) -> None:
        installed = {**INSTALLED, **{name.replace("_", "-"): version for name, version in versions.items()}}

        def version(name: str) -> str:
            found = installed.get(name)
            if found is None:
                raise importlib.metadata.PackageNotFoundError(name)
            return found

        monkeypatch.setattr(importlib.metadata, "version", version)
        monkeypatch.setattr(importlib.metadata, "requires", lambda name: NEEDS)
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if name in modules else None)

    return settle


def test_one_backend_is_offered() -> None:
    """It speaks the contract of this version, wants known shapes, and must be asked for by name."""
    assert spec().name == "hpu_optimum"
    assert CONTRACT_VERSION in SpecifierSet(spec().contract)
    assert spec().static_shapes
    assert spec().preference == 0


def test_it_runs_where_all_is_there(machine: Callable[..., None]) -> None:
    """The versions are told that a comparison is worth nothing without."""
    machine()
    availability = spec().probe()
    assert availability.ok
    assert availability.details == {
        "device": "hpu",
        "optimum-habana": "1.21.2",
        "transformers": "4.55.4",
        "habana-torch-plugin": "1.23.0.695",
        "torch": "2.9.0",
    }


def test_an_emulation_is_told(machine: Callable[..., None]) -> None:
    """Everything served on it says so."""
    machine(habana_torch_plugin="1.23.0.695+emulated")
    assert spec().probe().details["device"] == "hpu-emulated"


@pytest.mark.parametrize(
    ("absent", "words"),
    [
        ({"optimum_habana": None}, ["optimum-habana", "pip install 'vlm-runtime[hpu-optimum]'"]),
        ({"modules": {"torchvision"}}, ["habana_frameworks", "image"]),
        ({"modules": {"habana_frameworks"}}, ["torchvision", "image"]),
        ({"transformers": "5.23.0"}, ["transformers<4.56.0,>=4.55.0", "not 5.23.0", "pip install"]),
        ({"accelerate": None}, ["accelerate<=1.10.1,>=1.7.0", "not installed", "pip install"]),
    ],
)
def test_what_is_missing_is_named(absent: dict[str, Any], words: list[str], machine: Callable[..., None]) -> None:
    """With the remedy."""
    machine(**absent)
    availability = spec().probe()
    assert not availability.ok
    assert all(word in availability.reason for word in words), availability.reason


def test_listing_touches_nothing() -> None:
    """No package of the vendor's or transformers' is imported, and the environment stays as it is."""
    code = (
        "import os, sys; before = dict(os.environ); import runtime_hpu_optimum as plugin;"
        "plugin.runtime_backends()[0].probe(); assert dict(os.environ) == before;"
        "sys.exit(any(name.split('.')[0] in ('transformers', 'optimum', 'habana_frameworks') for name in sys.modules))"
    )
    folders = {
        str(Path(module.__file__ or "").parent.parent) for module in (runtime_hpu_optimum, sys.modules["runtime"])
    }
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": ":".join(folders)}, check=False)
    assert done.returncode == 0


def test_other_architectures_are_refused(tmp_path: Path) -> None:
    """Before anything is imported."""
    model = read_model(write_checkpoint(tmp_path / "model", Checkpoint("MistralForCausalLM")))
    options = {option.name: option.default for option in runtime_hpu_optimum.OPTIONS}
    with pytest.raises(BackendRefused, match="only, and the model is MistralForCausalLM"):
        spec().load(model, Limits(rows=1, context=64, prefill_rows=1, prefill_tokens=32, options=options))
