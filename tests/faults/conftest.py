"""A server that can be hurt; each costs seconds to start."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from runtime.wrappers import ENTRY_POINT_GROUP
from support.chaos import Hurt
from support.plugin import install_plugin
from support.processes import serving

STEP_TIMEOUT = 2


@pytest.fixture(scope="module")
def hurt(tmp_path_factory: pytest.TempPathFactory, arithmetic_plugin: Path) -> Iterator[Hurt]:
    """The arithmetic backend with the wrapper `chaos` around it; a step of more than two seconds counts as hung."""
    orders = tmp_path_factory.mktemp("orders")
    chaos = install_plugin(tmp_path_factory.mktemp("wrappers"), "chaos", "support.chaos:Chaos", group=ENTRY_POINT_GROUP)
    arguments = [
        "--backend",
        "arithmetic",
        "--model-id",
        "demo",
        "--wrap",
        "chaos",
        "--step-timeout",
        str(STEP_TIMEOUT),
    ]
    with serving(*arguments, folders=[arithmetic_plugin, chaos], variables={"CHAOS": str(orders)}) as server:
        yield Hurt(server, orders)
