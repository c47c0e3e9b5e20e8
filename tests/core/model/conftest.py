"""A hub with a model, and a cache without it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from runtime.model import FoundModel, find_model
from support.hub_server import FILES, MODEL_ID, Find, HubServer, hub_server, use_hub


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub with the demo model, other forms of its weights, and some code."""
    others = ("pytorch_model.bin", "consolidated.safetensors", "modeling.py", "README.md")
    with hub_server({**FILES, **dict.fromkeys(others, b"unwanted")}) as server:
        use_hub(monkeypatch, server)
        yield server


@pytest.fixture
def find(tmp_path: Path) -> Find:
    """Find the served model with an empty cache."""

    def find(model_id: str = MODEL_ID, revision: str | None = None) -> FoundModel:
        return find_model(model_id, revision, str(tmp_path / "cache"))

    return find
