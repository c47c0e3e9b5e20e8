"""Buckets chosen by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime.errors import StartupError
from runtime.shapes.bucket_file import KEYS, MAX_BYTES, read_bucket_file

RIGHT = {"prefill_lengths": [128, 4096], "prefill_rows": [1, 4], "decode_rows": [2], "decode_contexts": [8192]}


def written(folder: Path, text: str) -> Path:
    """A file."""
    (folder / "buckets.json").write_text(text)
    return folder / "buckets.json"


def test_lists(tmp_path: Path) -> None:
    """As they are."""
    assert read_bucket_file(written(tmp_path, json.dumps(RIGHT))) == {key: tuple(RIGHT[key]) for key in KEYS}


@pytest.mark.parametrize("entries", [[], 5, None, {}, [0], [1, 1], [2, 1], [1.5], [True], ["1"], [2**31], [[1]]])
def test_wrong_lists(entries: object, tmp_path: Path) -> None:
    """The key is named, and what it must be."""
    file = written(tmp_path, json.dumps({**RIGHT, "decode_rows": entries}))
    with pytest.raises(StartupError, match=r"--bucket-file: decode_rows .*a list of 1 to 4095 ascending whole numbers"):
        read_bucket_file(file)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "is not valid JSON"),
        ("[" * 100_000, "is not valid JSON"),
        ("[]", "must hold an object with exactly these lists: prefill_lengths, prefill_rows, "),
        (json.dumps({**RIGHT, "tiles": [3]}), "must hold an object with exactly these lists"),
        (json.dumps({"prefill_rows": [1]}), "must hold an object with exactly these lists"),
        (" " * (MAX_BYTES + 1), "has more than 1048576 bytes"),
    ],
)
def test_wrong_files(text: str, told: str, tmp_path: Path) -> None:
    """One line each."""
    with pytest.raises(StartupError, match=f"^--bucket-file {told}"):
        read_bucket_file(written(tmp_path, text))


def test_no_file(tmp_path: Path) -> None:
    """Its path is not told."""
    for file in (tmp_path / "nothing.json", tmp_path, Path("a\0b")):
        with pytest.raises(StartupError, match=r"^--bucket-file cannot be read; check that it exists and may be read$"):
            read_bucket_file(file)


@given(st.binary(max_size=200))
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, text: bytes) -> None:
    """Nothing but a typed error."""
    file = tmp_path_factory.mktemp("buckets") / "buckets.json"
    file.write_bytes(text)
    with pytest.raises(StartupError):
        read_bucket_file(file)
