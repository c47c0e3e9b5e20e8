"""Fixtures of the whole suite."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.plugin import install_plugin

torch.set_num_threads(1)


@pytest.fixture
def anyio_backend() -> str:
    """Run async tests on asyncio, which is what the runtime runs on."""
    return "asyncio"


@pytest.fixture(scope="session")
def arithmetic_plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that, on the path of imports, makes `--backend arithmetic` known."""
    return install_plugin(tmp_path_factory.mktemp("plugins"), "arithmetic", "support.arithmetic")
