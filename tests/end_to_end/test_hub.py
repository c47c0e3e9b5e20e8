"""`runtime serve` of a model on the hub."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.hub_server import FILES, FIRST, MODEL_ID, SECOND, hub_server
from support.processes import serving


@pytest.mark.proves("--revision", "--huggingface-hub-cache")
def test_revision_and_cache(arithmetic_plugin: Path, tmp_path: Path) -> None:
    """The commit of the branch is served, and is what the folder holds afterwards."""
    flags = ("--model-id", MODEL_ID, "--revision", "v1", "--huggingface-hub-cache", str(tmp_path / "cache"))
    with hub_server(FILES) as hub:
        hub.commits[SECOND], hub.branches["v1"] = hub.commits[FIRST], SECOND
        variables = {"HF_ENDPOINT": hub.url, "NO_PROXY": "127.0.0.1", "HF_HUB_OFFLINE": "0"}
        served = serving(*flags, "--backend", "arithmetic", folders=[arithmetic_plugin], variables=variables)
        with served as server, server.client() as http:
            assert http.get("/info").json()["details"]["revision"] == SECOND
    snapshots = [path for path in (tmp_path / "cache").glob("*/snapshots/*") if (path / "model.safetensors").exists()]
    assert [path.name for path in snapshots] == [SECOND]
