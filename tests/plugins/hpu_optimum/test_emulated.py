"""The network itself, on the virtual device; `make test-optimum` has the environment for it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path

import pytest
from support.virtual_hpu import run_tests

HERE = Path(__file__).parent
EMULATED = sorted((HERE / "emulated").glob("*.py"))


def is_installed() -> bool:
    try:
        return bool(importlib.metadata.version("optimum-habana"))
    except importlib.metadata.PackageNotFoundError:
        return False


@pytest.mark.skipif(not is_installed(), reason="optimum-habana is not installed; run: make test-optimum")
@pytest.mark.parametrize("path", EMULATED, ids=lambda path: path.stem)
@pytest.mark.parametrize("mode", ["lazy", "eager"])
def test_on_the_virtual_device(path: Path, mode: str) -> None:
    """In the release that optimum-habana is nearest to."""
    run_tests(path, "1.23", mode)
