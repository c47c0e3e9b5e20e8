"""Models of the toolkit's tests."""

from __future__ import annotations

import pytest
from runtime.backend import ModelSpec
from runtime.model import read_model
from support.agreement import GEOMETRIES
from support.checkpoints import DEMO, Checkpoint, write_checkpoint


@pytest.fixture(scope="module", params=[*GEOMETRIES, "demo"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    """Random models and the bundled one."""
    if request.param == "demo":
        return read_model(DEMO)
    return read_model(write_checkpoint(tmp_path_factory.mktemp("model"), GEOMETRIES[request.param]))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    """One random vision model."""
    return read_model(write_checkpoint(tmp_path_factory.mktemp("small"), Checkpoint()))
