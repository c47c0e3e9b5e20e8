"""Weights that cannot be read: a refusal that names what is broken."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from runtime.errors import BackendRefused
from runtime.static.weights import Weights
from support.weights import INDEX, SINGLE, refusal, write, write_raw


def test_missing_tensor(tmp_path: Path) -> None:
    """Told with its shape and where it was looked for."""
    one = write(tmp_path / "one", {"a": torch.zeros(2)})
    with Weights(one, torch.float32) as weights:
        told = refusal(lambda: weights.tensor("model.norm.weight", 64), tmp_path)
        assert told.startswith("tensor model.norm.weight of shape [64] is missing from model.safetensors;")
    two = write(tmp_path / "two", {"a": torch.zeros(2)}, {"b": torch.zeros(2)})
    with Weights(two, torch.float32) as weights:
        told = refusal(lambda: weights.stacked(["a", "c"], [2, 3]), tmp_path)
        assert told.startswith(f"tensor c of shape [3] is missing from the 2 files of {INDEX};")
        assert weights.unused() == ["a", "b"]


@pytest.mark.parametrize("shape", [(), (6,), (3, 2), (2, 3, 1)])
def test_misshapen_tensor(shape: tuple[int, ...], tmp_path: Path) -> None:
    """Told with the file, its shape and the wanted one; the same number of elements is not enough."""
    with Weights(write(tmp_path, {"model.image_newline": torch.zeros(2, 3)}), torch.float32) as weights:
        told = refusal(lambda: weights.tensor("image_newline", *shape), tmp_path)
    found = "tensor model.image_newline in model.safetensors has shape [2, 3]"
    assert told.startswith(f"{found}, wanted is {list(shape)};")


def test_unknown_dtype(tmp_path: Path) -> None:
    """Told with the dtypes that can be read."""
    quantized = {"a": torch.zeros(2).to(torch.float8_e4m3fn), "b": torch.zeros(2, dtype=torch.int8)}
    with Weights(write(tmp_path, quantized), torch.float32) as weights:
        told = refusal(lambda: weights.tensor("a", 2), tmp_path)
        assert told == "tensor a in model.safetensors has dtype 'F8_E4M3'; read are BF16, F16, F32: convert the model"
        assert "'I8'" in refusal(lambda: weights.tensor("b", 2), tmp_path)


@pytest.mark.parametrize("change", [-1, 1])
def test_wrong_size(change: int, tmp_path: Path) -> None:
    """A file that is cut off, or goes on, is refused before anything is read."""
    write(tmp_path, {"a": torch.zeros(100)})
    whole = (tmp_path / SINGLE).read_bytes()
    (tmp_path / SINGLE).write_bytes((whole + b"\0")[: len(whole) + change])
    told = refusal(lambda: Weights(tmp_path, torch.float32), tmp_path)
    assert f"{SINGLE} has {len(whole) + change} bytes but its header promises {len(whole)}" in told


@pytest.mark.parametrize("change", [-4, -1, 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_file_that_changes_its_size(change: int, dtype: torch.dtype, tmp_path: Path) -> None:
    """Also when the tensor itself is still whole."""
    write(tmp_path, {"a": torch.zeros(100), "b": torch.zeros(100)})
    whole = (tmp_path / SINGLE).read_bytes()
    with Weights(tmp_path, dtype) as weights:
        weights.tensor("b", 100)
        with (tmp_path / SINGLE).open("r+b") as file:
            file.truncate(len(whole) + change)
        for name in ("a", "b"):
            told = refusal(partial(weights.tensor, name, 100), tmp_path)
            assert told.startswith("model.safetensors changed while it was read;")
        assert weights.unused() == ["a"]


def test_no_weights(tmp_path: Path) -> None:
    """Neither a file nor an index; pickles do not count."""
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    told = refusal(lambda: Weights(tmp_path, torch.float32), tmp_path)
    assert told == "the model has no weights: neither model.safetensors nor model.safetensors.index.json can be read"


@pytest.mark.parametrize(
    "index",
    [
        b"", b"{", b"[" * 100_000, b"[]", b"{}", b'{"weight_map": []}', b'{"weight_map": {}}', b"\xff\xfe\xff",
        b'{"weight_map": {"a": 3}}', b'{"weight_map": {"a": ["b"]}}', b'{"weight_map": {"a": null}}',
        b'{"weight_map": {"a": "../model.safetensors"}}', b'{"weight_map": {"a": "/model.safetensors"}}',
        b'{"weight_map": {"a": "model.bin"}}', b'{"weight_map": {"a": "a.safetensors"}}' + b" " * 2**24,
        json.dumps({"weight_map": {f"{n}": f"{n}.safetensors" for n in range(1025)}}).encode(),
    ],
    ids=range(16),
)  # fmt: skip
def test_bad_index(index: bytes, tmp_path: Path) -> None:
    """Only a map to plain names of files in the same folder is followed."""
    (tmp_path / INDEX).write_bytes(index)
    told = refusal(lambda: Weights(tmp_path, torch.float32), tmp_path)
    assert told.startswith(f"{INDEX} is no index of 1 to 1024 safetensors files of its folder;")


def test_missing_shard(tmp_path: Path) -> None:
    """The file is named; a folder in its place does not help."""
    write(tmp_path, {"a": torch.zeros(2)}, {"b": torch.zeros(2)})
    shard = tmp_path / "model-00002-of-00002.safetensors"
    shard.unlink()
    assert refusal(lambda: Weights(tmp_path, torch.float32), tmp_path).startswith(f"{shard.name} cannot be read;")
    shard.mkdir()
    assert refusal(lambda: Weights(tmp_path, torch.float32), tmp_path).startswith(f"{shard.name} cannot be read;")


def test_tensor_in_two_files(tmp_path: Path) -> None:
    """Which one is meant cannot be known."""
    write(tmp_path, {"a": torch.zeros(2), "c": torch.zeros(2)}, {"b": torch.zeros(2), "a": torch.ones(2)})
    told = refusal(lambda: Weights(tmp_path, torch.float32), tmp_path)
    assert told.startswith("tensor 'a' is in model-00002-of-00002.safetensors and in model-00001-of-00002.safetensors;")


GOOD: dict[str, Any] = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}


@pytest.mark.parametrize(
    "entry",
    [
        None, [], {}, "a", {**GOOD, "dtype": 3}, {**GOOD, "shape": 6}, {**GOOD, "shape": [6.0]}, {**GOOD, "shape": "6"},
        {**GOOD, "shape": [-2, -3]}, {**GOOD, "shape": [True, 6]}, {**GOOD, "shape": [7]}, {**GOOD, "shape": [1] * 9},
        {**GOOD, "shape": [2**64, 2**64]}, {**GOOD, "data_offsets": [24, 0]}, {**GOOD, "data_offsets": [0, 24, 0]},
        {**GOOD, "data_offsets": [-24, 0]}, {**GOOD, "data_offsets": [0.0, 24.0]}, {**GOOD, "data_offsets": 24},
        {**GOOD, "dtype": "I8", "data_offsets": [24, 0]},
    ],
    ids=range(19),
)  # fmt: skip
def test_malformed_entry(entry: object, tmp_path: Path) -> None:
    """Every field of a header is checked, and the tensor named, briefly."""
    write_raw(tmp_path, {"good": GOOD, "ba\nd" + 200 * "d": entry}, bytes(24))
    told = refusal(lambda: Weights(tmp_path, torch.float32), tmp_path)
    assert told.startswith(r"model.safetensors has a malformed entry for tensor 'ba\nddd")
    assert len(told) < 250


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is not a safetensors file"),
        (b"\x02\0\0\0\0\0\0", "is not a safetensors file"),
        (b"version https://git-lfs.github.com/spec/v1", "is not a safetensors file"),
        ((2**24 + 1).to_bytes(8, "little") + bytes(2**24 + 1), "is not a safetensors file"),
        (b"\x02\0\0\0\0\0\0\0[]", "no valid JSON object"),
        (b"\x02\0\0\0\0\0\0\0{]", "no valid JSON object"),
        ((2**20).to_bytes(8, "little") + b"[" * 2**20, "no valid JSON object"),
    ],
    ids=range(7),
)
def test_bad_header(content: bytes, told: str, tmp_path: Path) -> None:
    """Not safetensors, or only a pointer to them."""
    (tmp_path / SINGLE).write_bytes(content)
    assert told in refusal(lambda: Weights(tmp_path, torch.float32), tmp_path)


def test_empty_file_of_tensors(tmp_path: Path) -> None:
    """A header without tensors is whole; what is asked for is missing."""
    with Weights(write_raw(tmp_path, {"__metadata__": {"format": "pt"}}), torch.float32) as weights:
        assert (weights.bytes, weights.unused()) == (0, [])
        assert "is missing" in refusal(lambda: weights.tensor("a", 1), tmp_path)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 30)
    | st.floats()
    | st.text(max_size=3)
    | st.sampled_from(["F32", 2**70]),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=5,
)
fields = st.fixed_dictionaries({}, optional={"dtype": values, "shape": values, "data_offsets": values})
headers = st.dictionaries(st.sampled_from(["a", "b", "__metadata__"]), fields | st.just(GOOD)) | values
texts = headers.map(lambda header: json.dumps(header).encode()) | st.binary(max_size=30)


@given(texts, st.integers(0, 40))
def test_no_header_does_worse_than_a_refusal(
    tmp_path_factory: pytest.TempPathFactory, header: bytes, data: int
) -> None:
    """Whatever a file says, it is read or refused."""
    folder = write_raw(tmp_path_factory.mktemp("model"), header, bytes(data))
    try:
        with Weights(folder, torch.float32) as weights:
            for name in weights.unused():
                weights.tensor(name, 2, 3)
    except BackendRefused:
        pass
