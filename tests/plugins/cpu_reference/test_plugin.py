"""What the plugin declares before anything is loaded."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import runtime_cpu_reference
from packaging.specifiers import SpecifierSet
from runtime.backend import CONTRACT_VERSION, Backend, Limits
from runtime.model import read_model
from support.checkpoints import DEMO


def test_one_backend_is_offered() -> None:
    """It loads, and speaks the contract of this version."""
    (spec,) = runtime_cpu_reference.runtime_backends()
    assert spec.name == "cpu_reference"
    assert CONTRACT_VERSION in SpecifierSet(spec.contract)
    backend: Backend = spec.load(read_model(DEMO), Limits(rows=1, context=64, prefill_rows=1, prefill_tokens=32))
    assert callable(backend.prefill)


def test_probe_tells_versions() -> None:
    """Read from the packages' metadata."""
    availability = runtime_cpu_reference.probe()
    assert availability.ok
    assert availability.details["device"] == "cpu"
    assert availability.details["transformers"] == version("transformers")


def test_probe_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason holds the command to run."""
    monkeypatch.setitem(sys.modules, "transformers", None)
    availability = runtime_cpu_reference.probe()
    assert not availability.ok
    assert "pip install transformers" in availability.reason


def test_listing_imports_no_transformers() -> None:
    """It takes seconds, and may not be installed."""
    code = (
        "import sys, runtime_cpu_reference as plugin; plugin.runtime_backends()[0].probe();"
        "sys.exit('transformers' in sys.modules)"
    )
    folders = {
        str(Path(module.__file__ or "").parent.parent) for module in (runtime_cpu_reference, sys.modules["runtime"])
    }
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": ":".join(folders)}, check=False)
    assert done.returncode == 0
