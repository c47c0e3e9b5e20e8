"""Servers that several files share; each costs seconds to start."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.processes import Server, serving


@pytest.fixture(scope="session")
def server(arithmetic_plugin: Path) -> Iterator[Server]:
    """The arithmetic backend behind gateway and worker."""
    with serving("--backend", "arithmetic", "--model-id", "demo", folders=[arithmetic_plugin]) as server:
        yield server


@pytest.fixture(scope="session")
def demo_server() -> Iterator[Server]:
    """The bundled model on the oracle."""
    with serving("--backend", "cpu_reference", "--model-id", "demo") as server:
        yield server
