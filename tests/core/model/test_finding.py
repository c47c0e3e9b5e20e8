"""Finding a model: what is fetched of it and when, and what is served without the hub."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from runtime.errors import ModelRefused
from runtime.model import find_configs, find_model, finding, read_model
from runtime.model.reader import read_configs
from safetensors.torch import save
from support.checkpoints import DEMO
from support.hub_server import FILES, FIRST, MODEL_ID, SECOND, WEIGHTS, Find, HubServer, refused

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
TOKEN = "hf_" + "s" * 34

SCRIPT = f"""
import logging, sys
from runtime.errors import ModelRefused
from runtime.model import find_model
logging.basicConfig(format="%(message)s")
for cache in sys.argv[1:] or [None]:
    try:
        print("found", find_model({MODEL_ID!r}, None, cache).commit)
    except ModelRefused as error:
        print(error)
"""


def shard(server: HubServer) -> None:
    """Put the weights into two files."""
    files = server.commits[FIRST]
    weights = files.pop(WEIGHTS)
    files |= dict(zip(SHARDS, (weights, save({"more": torch.zeros(3)})), strict=True))
    index = {"weight_map": dict(zip("ab", SHARDS, strict=True))}
    files["model.safetensors.index.json"] = json.dumps(index).encode()


def without_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Point at an address where nobody listens."""
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")


def test_a_model_is_fetched_once(server: HubServer, find: Find) -> None:
    """It is the model of the hub, only what is read was fetched, and the second start fetches nothing."""
    found = find()
    assert found.commit == FIRST
    assert replace(found.spec, path=DEMO) == read_model(DEMO)
    expected = sorted(set(FILES) - {"special_tokens_map.json"})
    assert sorted(server.files("GET")) == expected
    assert sorted(path.name for path in found.spec.path.iterdir()) == expected
    assert find() == found
    assert sorted(server.files("GET")) == expected


def test_configs_come_before_weights(server: HubServer, find: Find) -> None:
    """The weights are the last file asked for."""
    find()
    assert server.files("GET").index(WEIGHTS) == len(server.files("GET")) - 1


def test_configs_alone(server: HubServer, find: Find, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No weight is fetched for them; of a model in the cache they are told without the hub."""
    cache = str(tmp_path / "cache")
    found = find_configs(MODEL_ID, None, cache)
    assert replace(found, path=DEMO) == read_configs(DEMO) == find_configs(str(DEMO), None, None)
    assert WEIGHTS not in server.files("GET")
    with monkeypatch.context() as patch:
        without_hub(patch)
        with pytest.raises(ModelRefused, match="cannot be fetched"):
            find_configs(MODEL_ID, None, cache)
    find()
    without_hub(monkeypatch)
    assert find_configs(MODEL_ID, None, cache) == found


def test_the_shards_of_the_index_are_fetched(server: HubServer, find: Find) -> None:
    """And no other safetensors file."""
    shard(server)
    assert len(find().spec.digest) == 64
    assert [name for name in server.files("GET") if name.endswith("safetensors")] == list(SHARDS)


def test_a_model_that_cannot_be_served_costs_no_weights(server: HubServer, find: Find) -> None:
    """Its architecture is named, and those that can be served."""
    config = json.loads(FILES["config.json"]) | {"architectures": ["Qwen2VLForConditionalGeneration"]}
    server.commits[FIRST]["config.json"] = json.dumps(config).encode()
    message = refused(find)
    assert f"Model {MODEL_ID}: config.json: architecture 'Qwen2VLForConditionalGeneration'" in message
    assert "supported are LlavaNextForConditionalGeneration" in message
    assert not any(asked.file == WEIGHTS for asked in server.asked)


def test_pickles_are_not_fetched(server: HubServer, find: Find) -> None:
    """A model that has nothing else is refused."""
    del server.commits[FIRST][WEIGHTS]
    assert "pickle files" in refused(find)
    assert "pytorch_model.bin" not in server.files("GET")


def test_a_shard_that_the_hub_lacks_is_named(server: HubServer, find: Find) -> None:
    """Before another is fetched."""
    shard(server)
    del server.commits[FIRST][SHARDS[1]]
    assert f"{SHARDS[1]} is named in model.safetensors.index.json but missing on the hub" in refused(find)
    assert SHARDS[0] not in server.files("GET")


def test_a_disk_without_room_is_told_before_the_download(
    server: HubServer, find: Find, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With both numbers."""
    needed = len(server.commits[FIRST][WEIGHTS]) / 1e6
    usage = shutil.disk_usage("/")._replace(free=4_000_000)
    monkeypatch.setattr(finding.shutil, "disk_usage", lambda _: usage)
    assert f"takes {needed:.1f} MB more and the disk of the cache has 4.0 MB free" in refused(find)
    assert WEIGHTS not in server.files("GET")


def test_a_failed_start_goes_on_where_it_was(server: HubServer, find: Find, caplog: pytest.LogCaptureFixture) -> None:
    """Tries are counted; files that are there are not fetched again.

    501 is a status for which no version of the library tries again itself.
    """
    shard(server)
    server.refuse = lambda asked: (501, "") if (asked.method, asked.file) == ("GET", SHARDS[1]) else None
    assert "the hub answers with status 501" in refused(find)
    assert server.files("GET")[-4:] == [SHARDS[0], SHARDS[1], SHARDS[1], SHARDS[1]]
    assert caplog.text.count(f"the download of {SHARDS[1]} broke off; trying again") == 2
    server.refuse = lambda _: None
    server.asked.clear()
    find()
    assert server.files("GET") == [SHARDS[1]]


def test_a_revision_is_pinned(server: HubServer, find: Find) -> None:
    """A branch, a tag or a commit; the commit is told."""
    server.commits[SECOND] = {**FILES, "generation_config.json": b'{"eos_token_id": [2, 7]}'}
    server.branches["v1/beta"] = SECOND
    assert find().commit == FIRST
    for revision in (SECOND, "v1/beta"):
        found = find(MODEL_ID, revision)
        assert (found.commit, found.spec.eos_ids) == (SECOND, {2, 7})


def test_without_the_hub_the_cache_is_served(
    server: HubServer,
    find: Find,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With a warning that says why."""
    found = find()
    without_hub(monkeypatch)
    assert find() == found
    assert "the hub does not answer; check the network" in caplog.text
    assert f"Serving commit {FIRST} from the cache." in caplog.text


def test_the_cache_is_served_when_access_is_lost(
    server: HubServer, find: Find, caplog: pytest.LogCaptureFixture
) -> None:
    """A token that expires does not stop a server whose model is on the disk."""
    found = find()
    server.refuse = lambda _: (401, "RepoNotFound")
    assert find() == found
    assert "set HF_TOKEN" in caplog.text


def test_an_update_that_fails_leaves_the_old_model(
    server: HubServer, find: Find, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the hub, a branch is the last commit that was fetched whole."""
    find()
    server.commits[SECOND] = {**FILES, WEIGHTS: FILES[WEIGHTS] + b"new"}
    server.branches["main"] = SECOND
    server.refuse = lambda asked: (501, "") if (asked.method, asked.file) == ("GET", WEIGHTS) else None
    refused(find)
    without_hub(monkeypatch)
    assert find().commit == FIRST


def test_without_hub_and_cache_there_is_no_model(
    server: HubServer, find: Find, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the cache has all but the weights."""
    server.refuse = lambda asked: (501, "") if (asked.method, asked.file) == ("GET", WEIGHTS) else None
    refused(find, MODEL_ID, FIRST)
    without_hub(monkeypatch)
    for revision in (FIRST, "main"):
        assert "the hub does not answer; check the network, HF_ENDPOINT and the proxy" in refused(
            find, MODEL_ID, revision
        )


def test_a_folder_goes_before_the_hub(
    server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Also one that is called like a model of the hub."""
    shutil.copytree(DEMO, tmp_path / MODEL_ID)
    monkeypatch.chdir(tmp_path)
    assert find_model(MODEL_ID, "v1", None).commit is None
    assert not server.asked
    assert f"--revision v1 has no effect: {MODEL_ID} is a folder" in caplog.text


@pytest.mark.parametrize("model_id", ["/models/llava", "./llava", "../llava", "~/llava"])
def test_a_path_is_never_asked_of_the_hub(server: HubServer, find: Find, model_id: str) -> None:
    """A folder that is not there is a folder that is not there."""
    assert refused(find, model_id) == "Model llava is not a folder; give the path of a downloaded model."
    assert not server.asked


def run(*caches: Path, **variables: str) -> list[str]:
    """Find the model in a process of its own, with these variables, and return the lines it writes."""
    ours = ("HF_", "HUGGING", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY")
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(ours)}
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT, *map(str, caches)],
        env={**kept, "PYTHONPATH": os.pathsep.join(sys.path), **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    return (process.stdout + process.stderr).splitlines()


def test_the_variables_of_the_library_are_heeded(server: HubServer, tmp_path: Path) -> None:
    """Endpoint, token, cache, proxy; HF_HUB_ENABLE_HF_TRANSFER, whose package is missing, is but a warning.

    Then HF_HUB_OFFLINE: with what is in the cache nobody is asked; with an empty cache there is one clear line.
    """
    found, warning = run(
        HF_ENDPOINT="http://hub.invalid",
        http_proxy=server.url,
        HF_TOKEN=TOKEN,
        HF_HOME=str(tmp_path),
        HF_HUB_ENABLE_HF_TRANSFER="1",
    )
    assert found == f"found {FIRST}"
    assert warning.startswith("HF_HUB_ENABLE_HF_TRANSFER has no effect: ")
    assert all(asked.headers["authorization"] == f"Bearer {TOKEN}" for asked in server.asked if MODEL_ID in asked.path)
    server.asked.clear()
    found, missing = run(tmp_path / "hub", tmp_path / "empty", HF_ENDPOINT=server.url, HF_HUB_OFFLINE="1")
    assert found == f"found {FIRST}"
    assert missing == (
        f"Model {MODEL_ID}, revision main, is not in the cache and HF_HUB_OFFLINE is set; "
        f"unset it, or give the folder of a downloaded model."
    )
    assert not server.asked
