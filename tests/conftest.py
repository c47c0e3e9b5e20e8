"""Fixtures of the whole suite."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings
from support.plugin import install_plugin

torch.set_num_threads(1)
# How long an example takes is the machine's business. What lands is tried on the same examples each time; new ones are
# looked for everywhere else.
settings.register_profile(
    "steady", deadline=None, derandomize="CI" in os.environ, suppress_health_check=[HealthCheck.too_slow]
)
if settings.get_current_profile_name() == "default":
    settings.load_profile("steady")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run async tests on asyncio, which is what the runtime runs on."""
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
async def _one_event_loop(anyio_backend: str) -> AsyncIterator[None]:
    """Keep one event loop for all tests: grpc.aio hands late events to the loop that a call was made on."""
    yield  # noqa: PT022  # the loop lives while this is suspended


@pytest.fixture(scope="session")
def arithmetic_plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that, on the path of imports, makes `--backend arithmetic` known."""
    return install_plugin(tmp_path_factory.mktemp("plugins"), "arithmetic", "support.arithmetic")
