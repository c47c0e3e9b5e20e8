"""A server that can be hurt; each costs seconds to start."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.chaos import Hurt, hurting

STEP_TIMEOUT = 2


@pytest.fixture(scope="module")
def hurt(tmp_path_factory: pytest.TempPathFactory, arithmetic_plugin: Path) -> Iterator[Hurt]:
    """The arithmetic backend with the wrapper `chaos` around it; a step of more than two seconds counts as hung."""
    arguments = ("--backend", "arithmetic", "--ignore-eos", "--step-timeout", str(STEP_TIMEOUT))
    with hurting(tmp_path_factory.mktemp("hurt"), *arguments, plugins=[arithmetic_plugin]) as hurt:
        yield hurt
