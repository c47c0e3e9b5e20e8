"""Models of the tests of `runtime verify`."""

from __future__ import annotations

import pytest
from runtime.backend import ModelSpec
from runtime.model import read_model
from support.checkpoints import Checkpoint, write_checkpoint
from support.faults import MODEL
from support.verifying import Verifier


@pytest.fixture(scope="package")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    """A random vision model."""
    return read_model(write_checkpoint(tmp_path_factory.mktemp("model"), MODEL))


@pytest.fixture(scope="package")
def text_model(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    """A random text model."""
    return read_model(write_checkpoint(tmp_path_factory.mktemp("text"), Checkpoint("MistralForCausalLM")))


@pytest.fixture(scope="package")
def verifier(model: ModelSpec, tmp_path_factory: pytest.TempPathFactory) -> Verifier:
    """What verifies backends of that model."""
    return Verifier(model, tmp_path_factory.mktemp("references"))
