"""The hub as it answers, or does not: every fault is one clear line, and a download that breaks off goes on."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from runtime.model import find_model, hub
from runtime.model.hub import cache_folder
from support.hub_server import FILES, FIRST, MODEL_ID, WEIGHTS, Asked, Find, HubServer, refused

TOKEN = "hf_" + "s" * 34


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
    find: Find,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    refuse: Callable[[Asked], tuple[int, str] | None],
    complaint: str,
) -> None:
    """It names the model and the remedy; the token goes to the hub in a header and nowhere else."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    server.refuse = refuse
    message = refused(find)
    assert complaint in message
    of_the_model = [asked for asked in server.asked if MODEL_ID in asked.path]  # the library asks more, of its own
    assert of_the_model
    assert all(asked.headers["authorization"] == f"Bearer {TOKEN}" for asked in of_the_model)
    others = [(asked.path, {**asked.headers, "authorization": ""}) for asked in server.asked]
    assert TOKEN not in f"{message}{others}{caplog.text}"


def test_an_unknown_model_is_refused(server: HubServer, find: Find) -> None:
    """A misspelt folder ends here as well."""
    assert "Model toys/shape is neither a folder here nor a public model on the hub" in refused(find, "toys/shape")


def test_an_unknown_revision_is_refused(server: HubServer, find: Find) -> None:
    """It is named."""
    assert f"Model {MODEL_ID} has no revision v9 on the hub" in refused(find, MODEL_ID, "v9")


@pytest.mark.parametrize("model_id", ["", "a/b/c", "a b", "a--b", "a..b", "x\0y", "\x1b[31m", "é", "a" * 9999])
def test_a_malformed_id_is_refused(server: HubServer, find: Find, model_id: str) -> None:
    """The hub is not asked."""
    assert "neither a folder nor the id of a model on the hub, like ORG/NAME" in refused(find, model_id)
    assert not server.asked


@pytest.mark.parametrize("revision", ["", "../../x", "/etc", "a b", "a\n", "r" * 999])
def test_a_malformed_revision_is_refused(server: HubServer, find: Find, revision: str) -> None:
    """It becomes part of a path in the cache; an empty one is the default branch."""
    if revision == "":
        assert find(MODEL_ID, revision).commit == FIRST
    else:
        assert "is no branch, tag or commit" in refused(find, MODEL_ID, revision)
        assert not server.asked


def test_what_is_no_hub_is_refused(server: HubServer, find: Find) -> None:
    """Here one whose commits are no commits."""
    server.commits["../x"] = FILES
    server.branches["main"] = "../x"
    assert "what HF_ENDPOINT names is not a hub" in refused(find)


def test_a_broken_download_is_resumed(server: HubServer, find: Find) -> None:
    """The rest is asked for from where the connection was cut, give or take a buffer, and the file is whole."""
    server.cut.add(WEIGHTS)
    found = find()
    first, second = (asked for asked in server.asked if asked.method == "GET" and asked.file == WEIGHTS)
    assert "range" not in first.headers
    start = int(second.headers["range"].removeprefix("bytes=").removesuffix("-"))
    assert 0.9 < start / (len(FILES[WEIGHTS]) // 2) <= 1
    assert (found.spec.path / WEIGHTS).read_bytes() == FILES[WEIGHTS]


def test_a_disk_that_fills_up_is_told(server: HubServer, find: Find, monkeypatch: pytest.MonkeyPatch) -> None:
    """A try more would not help."""

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/secret")

    monkeypatch.setattr(hub, "hf_hub_download", fail)
    assert "the disk of the cache is full" in refused(find)


def test_a_cache_that_cannot_be_written_is_told(server: HubServer, tmp_path: Path) -> None:
    """Here because a file is in the way."""
    (tmp_path / "file").touch()
    message = refused(lambda: find_model(MODEL_ID, None, str(tmp_path / "file" / "cache")))
    assert "the cache cannot be written; set --huggingface-hub-cache" in message


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
