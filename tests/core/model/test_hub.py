"""Models of the hub: what is fetched, what is kept, what is told, and that the hub's faults are one clear line."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants, file_download
from runtime.errors import ModelRefused
from runtime.model import FoundModel, find_model, finding, hub, progress, read_model
from runtime.model.hub import cache_folder
from safetensors.torch import save
from support.checkpoints import DEMO
from support.hub_server import FIRST, MODEL_ID, SECOND, Asked, HubServer, folder_files, hub_server

FILES = folder_files(DEMO)
WEIGHTS = "model.safetensors"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
TOKEN = "hf_" + "s" * 34


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub with the demo model, its weights three times over, and some code."""
    others = ("pytorch_model.bin", "consolidated.safetensors", "modeling.py", "README.md")
    with hub_server({**FILES, **dict.fromkeys(others, b"unwanted")}) as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        for module in (constants, file_download):  # version 0 looks in the second
            monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 2**16)
        monkeypatch.setattr(hub, "PAUSES", (0.0, 0.0))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield server


@pytest.fixture
def find(tmp_path: Path) -> Callable[..., FoundModel]:
    """Find the served model with an empty cache."""

    def find(model_id: str = MODEL_ID, revision: str | None = None) -> FoundModel:
        return find_model(model_id, revision, str(tmp_path / "cache"))

    return find


def refusal(find: Callable[..., FoundModel], *arguments: str) -> str:
    """Return the refusal's text, checked to be one line without library text, addresses and secrets."""
    with pytest.raises(ModelRefused) as caught:
        find(*arguments)
    message = caught.value.message
    for leak in ("\n", "127.0.0.1", "Error", "words of the hub", "http", TOKEN):
        assert leak not in message
    assert len(message) < 300
    return message


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


def test_a_model_is_fetched_once(server: HubServer, find: Callable[..., FoundModel]) -> None:
    """It is the model of the hub, only what is read was fetched, and the second start fetches nothing."""
    found = find()
    assert found.commit == FIRST
    assert replace(found.spec, path=DEMO) == read_model(DEMO)
    expected = sorted(set(FILES) - {"special_tokens_map.json"})
    assert sorted(server.files("GET")) == expected
    assert sorted(path.name for path in found.spec.path.iterdir()) == expected
    assert find() == found
    assert sorted(server.files("GET")) == expected


def test_configs_come_before_weights(server: HubServer, find: Callable[..., FoundModel]) -> None:
    """The weights are the last file asked for."""
    find()
    assert server.files("GET").index(WEIGHTS) == len(server.files("GET")) - 1


def test_the_shards_of_the_index_are_fetched(server: HubServer, find: Callable[..., FoundModel]) -> None:
    """And no other safetensors file."""
    shard(server)
    assert len(find().spec.digest) == 64
    assert [name for name in server.files("GET") if name.endswith("safetensors")] == list(SHARDS)


def test_a_model_that_cannot_be_served_costs_no_weights(server: HubServer, find: Callable[..., FoundModel]) -> None:
    """Its architecture is named, and those that can be served."""
    config = json.loads(FILES["config.json"]) | {"architectures": ["Qwen2VLForConditionalGeneration"]}
    server.commits[FIRST]["config.json"] = json.dumps(config).encode()
    message = refusal(find)
    assert f"Model {MODEL_ID}: config.json: architecture 'Qwen2VLForConditionalGeneration'" in message
    assert "supported are LlavaNextForConditionalGeneration" in message
    assert not any(asked.file == WEIGHTS for asked in server.asked)


def test_pickles_are_not_fetched(server: HubServer, find: Callable[..., FoundModel]) -> None:
    """A model that has nothing else is refused."""
    del server.commits[FIRST][WEIGHTS]
    assert "pickle files" in refusal(find)
    assert "pytorch_model.bin" not in server.files("GET")


def test_a_broken_download_is_resumed(server: HubServer, find: Callable[..., FoundModel]) -> None:
    """The rest is asked for from where the connection was cut, give or take a buffer, and the file is whole."""
    server.cut.add(WEIGHTS)
    found = find()
    first, second = (asked for asked in server.asked if asked.method == "GET" and asked.file == WEIGHTS)
    assert "range" not in first.headers
    start = int(second.headers["range"].removeprefix("bytes=").removesuffix("-"))
    assert 0.9 < start / (len(FILES[WEIGHTS]) // 2) <= 1
    assert (found.spec.path / WEIGHTS).read_bytes() == FILES[WEIGHTS]


def test_a_failed_start_goes_on_where_it_was(
    server: HubServer, find: Callable[..., FoundModel], caplog: pytest.LogCaptureFixture
) -> None:
    """Tries are counted; files that are there are not fetched again.

    501 is a status for which no version of the library tries again itself.
    """
    shard(server)
    server.refuse = lambda asked: (501, "") if (asked.method, asked.file) == ("GET", SHARDS[1]) else None
    assert "the hub answers with status 501" in refusal(find)
    assert server.files("GET")[-4:] == [SHARDS[0], SHARDS[1], SHARDS[1], SHARDS[1]]
    assert caplog.text.count(f"the download of {SHARDS[1]} broke off; trying again") == 2
    server.refuse = lambda _: None
    server.asked.clear()
    find()
    assert server.files("GET") == [SHARDS[1]]


def test_a_revision_is_pinned(server: HubServer, find: Callable[..., FoundModel]) -> None:
    """A branch, a tag or a commit; the commit is told."""
    server.commits[SECOND] = {**FILES, "generation_config.json": b'{"eos_token_id": [2, 7]}'}
    server.branches["v1/beta"] = SECOND
    assert find().commit == FIRST
    for revision in (SECOND, "v1/beta"):
        found = find(MODEL_ID, revision)
        assert (found.commit, found.spec.eos_ids) == (SECOND, {2, 7})


def test_without_the_hub_the_cache_is_served(
    server: HubServer,
    find: Callable[..., FoundModel],
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
    server: HubServer, find: Callable[..., FoundModel], caplog: pytest.LogCaptureFixture
) -> None:
    """A token that expires does not stop a server whose model is on the disk."""
    found = find()
    server.refuse = lambda _: (401, "RepoNotFound")
    assert find() == found
    assert "set HF_TOKEN" in caplog.text


def test_an_update_that_fails_leaves_the_old_model(
    server: HubServer, find: Callable[..., FoundModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the hub, a branch is the last commit that was fetched whole."""
    find()
    server.commits[SECOND] = {**FILES, WEIGHTS: FILES[WEIGHTS] + b"new"}
    server.branches["main"] = SECOND
    server.refuse = lambda asked: (501, "") if (asked.method, asked.file) == ("GET", WEIGHTS) else None
    refusal(find)
    without_hub(monkeypatch)
    assert find().commit == FIRST


def test_without_hub_and_cache_there_is_no_model(
    server: HubServer, find: Callable[..., FoundModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the cache has a part of it."""
    without_hub(monkeypatch)
    assert "the hub does not answer; check the network, HF_ENDPOINT and the proxy" in refusal(find)


def only(files: bool, status: int, code: str) -> Callable[[Asked], tuple[int, str] | None]:
    """Refuse everything, or only files."""
    return lambda asked: (status, code) if asked.file or not files else None


@pytest.mark.parametrize(
    ("refuse", "complaint"),
    [
        (only(False, 404, "RepoNotFound"), f"Model {MODEL_ID} is neither a folder here nor a public model on the hub"),
        (only(False, 401, ""), "or set HF_TOKEN to a token that may read it"),
        (only(False, 403, ""), "or set HF_TOKEN to a token that may read it"),
        (only(True, 401, "GatedRepo"), f"Model {MODEL_ID} is gated: accept its terms on the hub and set HF_TOKEN"),
        (only(True, 403, "GatedRepo"), f"Model {MODEL_ID} is gated: accept its terms on the hub and set HF_TOKEN"),
        (only(True, 404, "EntryNotFound"), "config.json is missing on the hub"),
        (only(False, 503, ""), "the hub answers with status 503; try again later"),
        (only(False, 429, ""), "the hub answers with status 429; try again later"),
    ],
)
def test_a_refusal_of_the_hub_is_one_clear_line(
    server: HubServer,
    find: Callable[..., FoundModel],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    refuse: Callable[[Asked], tuple[int, str] | None],
    complaint: str,
) -> None:
    """It names the model and the remedy; the token goes to the hub in a header and nowhere else."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    server.refuse = refuse
    assert complaint in refusal(find)
    assert all(asked.headers["authorization"] == f"Bearer {TOKEN}" for asked in server.asked)
    others = [(asked.path, {**asked.headers, "authorization": ""}) for asked in server.asked]
    assert TOKEN not in f"{others}{caplog.text}"


def test_an_unknown_model_is_refused(server: HubServer, find: Callable[..., FoundModel]) -> None:
    """A misspelt folder ends here as well."""
    assert "Model toys/shape is neither a folder here nor a public model on the hub" in refusal(find, "toys/shape")


def test_an_unknown_revision_is_refused(server: HubServer, find: Callable[..., FoundModel]) -> None:
    """It is named."""
    assert f"Model {MODEL_ID} has no revision v9 on the hub" in refusal(find, MODEL_ID, "v9")


@pytest.mark.parametrize(
    "model_id", ["", "a/b/c", "/models/x", "../x", "a b", "a--b", "x\0y", "\x1b[31m", "é", "a" * 9999]
)
def test_a_malformed_id_is_refused(server: HubServer, find: Callable[..., FoundModel], model_id: str) -> None:
    """The hub is not asked."""
    assert "neither a folder nor the id of a model on the hub, like ORG/NAME" in refusal(find, model_id)
    assert not server.asked


@pytest.mark.parametrize("revision", ["", "../../x", "/etc", "a b", "a\n", "r" * 999])
def test_a_malformed_revision_is_refused(server: HubServer, find: Callable[..., FoundModel], revision: str) -> None:
    """It becomes part of a path in the cache; an empty one is the default branch."""
    if revision == "":
        assert find(MODEL_ID, revision).commit == FIRST
    else:
        assert "is no branch, tag or commit" in refusal(find, MODEL_ID, revision)
        assert not server.asked


def test_a_shard_that_the_hub_lacks_is_named(server: HubServer, find: Callable[..., FoundModel]) -> None:
    """Before another is fetched."""
    shard(server)
    del server.commits[FIRST][SHARDS[1]]
    assert f"{SHARDS[1]} is named in model.safetensors.index.json but missing on the hub" in refusal(find)
    assert SHARDS[0] not in server.files("GET")


def test_what_is_no_hub_is_refused(server: HubServer, find: Callable[..., FoundModel]) -> None:
    """Here one whose commits are no commits."""
    server.commits["../x"] = FILES
    server.branches["main"] = "../x"
    assert "what HF_ENDPOINT names is not a hub" in refusal(find)


def test_a_disk_without_room_is_told_before_the_download(
    server: HubServer, find: Callable[..., FoundModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With both numbers: the demo's weights are 4,575,224 bytes."""
    usage = shutil.disk_usage("/")._replace(free=4_000_000)
    monkeypatch.setattr(finding.shutil, "disk_usage", lambda _: usage)
    assert "takes 4.6 MB more and the disk of the cache has 4.0 MB free" in refusal(find)
    assert WEIGHTS not in server.files("GET")


def test_a_disk_that_fills_up_is_told(
    server: HubServer, find: Callable[..., FoundModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A try more would not help."""

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/secret")

    monkeypatch.setattr(hub, "hf_hub_download", fail)
    assert "the disk of the cache is full" in refusal(find)


def test_a_cache_that_cannot_be_written_is_told(server: HubServer, tmp_path: Path) -> None:
    """Here because a file is in the way."""
    (tmp_path / "file").touch()
    message = refusal(lambda: find_model(MODEL_ID, None, str(tmp_path / "file" / "cache")))
    assert "the cache cannot be written; set --huggingface-hub-cache" in message


def test_progress_is_logged(
    server: HubServer,
    find: Callable[..., FoundModel],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The log tells of a download while it goes on; the hub waits here until it does."""
    told, waited = threading.Event(), list[bool]()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "MB of 4.6 MB" in record.getMessage():
                told.set()

    monkeypatch.setattr(progress, "LINE_SECONDS", 0.001)
    monkeypatch.setattr(progress.log, "handlers", [Listener()])
    server.halfway = lambda name: None if name != WEIGHTS else waited.append(told.wait(10))
    with caplog.at_level(logging.INFO):
        find()
    assert waited == [True]
    assert f"fetching 1 files, 4.6 MB, of {MODEL_ID} at commit {FIRST}" in caplog.text


def test_progress_is_a_bar_on_a_terminal(
    server: HubServer, find: Callable[..., FoundModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes away when the download is done."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

        def write(self, text: str) -> int:
            if "/4.6 MB" in text:
                told.set()
            return super().write(text)

    told, waited, terminal = threading.Event(), list[bool](), Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(progress, "BAR_SECONDS", 0.001)
    server.halfway = lambda name: None if name != WEIGHTS else waited.append(told.wait(10))
    find()
    assert waited == [True]
    assert terminal.getvalue().endswith("\x1b[2K")


@pytest.mark.parametrize(
    ("variables", "writable", "expected"),
    [
        ({}, True, "volume"),
        ({}, False, "default"),
        ({"HF_HOME": "x"}, True, "default"),
        ({"HF_HUB_CACHE": "x"}, True, "default"),
        ({"HUGGINGFACE_HUB_CACHE": "x"}, True, "default"),
    ],
)
def test_the_cache_is_the_volume_of_a_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], writable: bool, expected: str
) -> None:
    """Where there is one to write to and nothing else is said; what is chosen goes first."""
    for name in ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    if writable:
        (tmp_path / "volume").mkdir()
    monkeypatch.setattr(hub, "VOLUME", tmp_path / "volume")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "default"))
    assert cache_folder(None) == tmp_path / expected
    assert cache_folder(str(tmp_path / "chosen")) == tmp_path / "chosen"


def test_a_folder_goes_before_the_hub(
    server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Also one that is called like a model of the hub."""
    shutil.copytree(DEMO, tmp_path / MODEL_ID)
    monkeypatch.chdir(tmp_path)
    assert find_model(MODEL_ID, "v1", None).commit is None
    assert not server.asked
    assert f"--revision v1 has no effect: {MODEL_ID} is a folder" in caplog.text


SCRIPT = f"""
import logging
from runtime.errors import ModelRefused
from runtime.model import find_model
logging.basicConfig(format="%(message)s")
try:
    print("found", find_model({MODEL_ID!r}, None, None).commit)
except ModelRefused as error:
    print(error)
"""


def run(**variables: str) -> str:
    """Find the model in a process of its own, with these variables, and return what it writes."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    for name in ("http_proxy", "HTTP_PROXY", "NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy"):
        kept.pop(name, None)
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**kept, "PYTHONPATH": os.pathsep.join(sys.path), **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    return process.stdout + process.stderr


def test_the_variables_of_the_library_are_heeded(server: HubServer, tmp_path: Path) -> None:
    """Endpoint, token, cache, proxy; HF_HUB_ENABLE_HF_TRANSFER, whose package is missing, is but a warning.

    Then HF_HUB_OFFLINE: with what is in the cache nobody is asked; with an empty cache there is one clear line.
    """
    said = run(
        HF_ENDPOINT="http://hub.invalid",
        HTTP_PROXY=server.url,
        http_proxy=server.url,
        HF_TOKEN=TOKEN,
        HF_HOME=str(tmp_path),
        HF_HUB_ENABLE_HF_TRANSFER="1",
    )
    first, second = said.splitlines()
    assert first == f"found {FIRST}"
    assert second.startswith("HF_HUB_ENABLE_HF_TRANSFER has no effect: ")
    assert server.files("GET")
    assert all(asked.headers["authorization"] == f"Bearer {TOKEN}" for asked in server.asked if MODEL_ID in asked.path)
    assert (tmp_path / "hub" / "models--toys--shapes").is_dir()
    server.asked.clear()
    assert run(HF_ENDPOINT=server.url, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path)) == f"found {FIRST}\n"
    said = run(HF_ENDPOINT=server.url, HF_HUB_OFFLINE="1", HUGGINGFACE_HUB_CACHE=str(tmp_path / "empty"))
    assert said == (
        f"Model {MODEL_ID}, revision main, is not in the cache and HF_HUB_OFFLINE is set; "
        f"unset it, or give the folder of a downloaded model.\n"
    )
    assert not server.asked
