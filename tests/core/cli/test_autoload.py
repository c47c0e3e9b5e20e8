"""PyTorch imports packages of vendors by itself; the commands keep it from that, for the backend comes first."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.processes import environment

VENDOR = 'import sys; print("vendor imported", file=sys.stderr)\ndef autoload(): pass\n'
VARIABLE = "TORCH_DEVICE_BACKEND_AUTOLOAD"
METADATA = "Metadata-Version: 2.1\nName: vendor\nVersion: 1.0\n"


@pytest.fixture
def vendor(tmp_path: Path) -> Path:
    """A package that PyTorch imports at the end of its own import."""
    (tmp_path / "vendor.py").write_text(VENDOR)
    facts = tmp_path / "vendor-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(METADATA)
    (facts / "entry_points.txt").write_text("[torch.backends]\nvendor = vendor:autoload\n")
    return tmp_path


def told(folder: Path, *words: str, **variables: str) -> str:
    """What a fresh interpreter says on standard error; commands that ran in this one have set the variable."""
    inherited = {name: value for name, value in environment(folder).items() if name != VARIABLE}
    done = subprocess.run(
        [sys.executable, *words],
        env={**inherited, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stderr


def test_no_command_lets_pytorch_import_a_vendor(vendor: Path) -> None:
    """Not before its backend has set the environment; PyTorch alone would have."""
    assert "vendor imported" in told(vendor, "-c", "import torch")
    assert "vendor imported" not in told(vendor, "-m", "runtime", "backends")


def test_the_operator_may_want_it(vendor: Path) -> None:
    """What is set already stays."""
    assert "vendor imported" in told(vendor, "-m", "runtime", "backends", **{VARIABLE: "1"})
