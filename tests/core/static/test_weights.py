"""Reading weights: the numbers of safetensors' own loader, in little memory, and a refusal of what is broken."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from runtime.errors import BackendRefused
from runtime.model import read_model
from runtime.static.weights import CHUNK_BYTES, Weights
from runtime_cpu_reference.net import load_net
from safetensors.torch import load_file, save_file
from support.checkpoints import Checkpoint, write_checkpoint, write_json

DTYPES = (torch.bfloat16, torch.float16, torch.float32)
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"

Tensors = dict[str, torch.Tensor]


def noise(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    """Random bits, so every kind of number: subnormal, infinite, not a number."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-(2**15), 2**15, (*shape, 2), dtype=torch.int16, generator=generator).view(dtype)[..., 0]


def write(folder: Path, *shards: Mapping[str, torch.Tensor]) -> Path:
    """Write one file, or several with an index."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [f"model-{n + 1:05}-of-{len(shards):05}.safetensors" for n in range(len(shards))]
    if len(shards) == 1:
        files = [SINGLE]
    else:
        weight_map = {name: file for file, shard in zip(files, shards, strict=True) for name in shard}
        write_json(folder / INDEX, {"weight_map": weight_map})
    for file, shard in zip(files, shards, strict=True):
        save_file({name: tensor.contiguous() for name, tensor in shard.items()}, folder / file)
    return folder


def write_raw(folder: Path, header: object, data: bytes = b"") -> Path:
    """Write one file with a header of one's own, which may be bytes already."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    (folder / SINGLE).write_bytes(len(text).to_bytes(8, "little") + text + data)
    return folder


def same(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


def refusal(call: Callable[[], object], folder: Path) -> str:
    """The message of the refusal: one line that does not tell where the folder is."""
    with pytest.raises(BackendRefused) as error:
        call()
    assert str(folder.parent) not in error.value.message
    assert "\n" not in error.value.message
    return error.value.message


shapes = st.lists(st.integers(0, 5), max_size=4).map(tuple)
entries = st.tuples(shapes, st.sampled_from(DTYPES), st.integers(0, 2))


@given(st.lists(entries, min_size=1, max_size=8), st.sampled_from(DTYPES))
def test_tensors_equal_those_of_safetensors(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple[tuple[int, ...], torch.dtype, int]], dtype: torch.dtype
) -> None:
    """Whatever the shapes, the stored and the wanted dtype and the number of files."""
    shards: list[Tensors] = [{}, {}, {}]
    for number, (shape, stored, shard) in enumerate(drawn):
        shards[shard][f"tensor.{number}"] = noise(shape, stored, number)
    folder = write(tmp_path_factory.mktemp("model"), *filter(None, shards))
    expected = {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}
    with Weights(folder, dtype) as weights:
        for name, tensor in expected.items():
            same(weights.tensor(name, *tensor.shape), tensor.to(dtype))
        assert weights.unused() == []
        assert weights.bytes == sum(tensor.to(dtype).nbytes for tensor in expected.values())


@pytest.mark.parametrize("wanted", DTYPES, ids=str)
@pytest.mark.parametrize("stored", DTYPES, ids=str)
def test_tensors_longer_than_a_chunk(stored: torch.dtype, wanted: torch.dtype, tmp_path: Path) -> None:
    """Converted in several chunks, the last one shorter, nothing is lost at the seams."""
    tensor = noise((1031, 2053), stored)
    assert tensor.nbytes > CHUNK_BYTES
    assert tensor.nbytes % CHUNK_BYTES
    with Weights(write(tmp_path, {"small": tensor[:3, :5], "large": tensor}), wanted) as weights:
        same(weights.tensor("large", 1031, 2053), tensor.to(wanted))
        same(weights.stacked(["large", "large"], [1031, 1031], 2053), torch.cat([tensor, tensor]).to(wanted))


@pytest.mark.parametrize("rest", [(), (4,), (2, 3)])
def test_stacked(rest: tuple[int, ...], tmp_path: Path) -> None:
    """Tensors of several files and dtypes lie one below the other in one piece of memory."""
    parts = {"q": noise((6, *rest), torch.float32), "k": noise((2, *rest), torch.bfloat16, 1)}
    value = noise((2, *rest), torch.float16, 2)
    with Weights(write(tmp_path, parts, {"v": value}), torch.bfloat16) as weights:
        stacked = weights.stacked(["q", "k", "v"], [6, 2, 2], *rest)
        assert stacked.is_contiguous()
        same(stacked, torch.cat([part.bfloat16() for part in (*parts.values(), value)]))
        assert weights.unused() == []


def test_other_devices(tmp_path: Path) -> None:
    """Tensors are made on the device that is asked for; this one keeps no numbers."""
    meta = torch.device("meta")
    with Weights(write(tmp_path, {"a": torch.ones(3, 4)}), torch.float32, meta) as weights:
        made = weights.tensor("a", 3, 4), weights.stacked(["a", "a"], [3, 3], 4)
    assert [(tensor.shape, tensor.device) for tensor in made] == [((3, 4), meta), ((6, 4), meta)]


def test_tensors_outlive_the_files(tmp_path: Path) -> None:
    """What was handed out is a copy, so closing the files or writing over them does not matter."""
    tensor = noise((1024, 1024), torch.float32)
    with Weights(write(tmp_path, {"a": tensor}), torch.float32) as weights:
        read = weights.tensor("a", 1024, 1024)
    (tmp_path / SINGLE).write_bytes(bytes((tmp_path / SINGLE).stat().st_size))
    same(read, tensor)


def test_unused(tmp_path: Path) -> None:
    """Only reading counts as use; index tables of old checkpoints do no harm when nobody wants them."""
    tensors = {name: torch.zeros(2) for name in ("b", "a", "c", "lm_head.weight")}
    folder = write(tmp_path, {**tensors, "position_ids": torch.arange(3)})
    with Weights(folder, torch.bfloat16) as weights:
        assert weights.has("a")
        assert not weights.has("d")
        weights.tensor("c", 2)
        weights.tensor("language_model.lm_head.weight", 2)
        assert weights.unused() == ["a", "b", "position_ids"]
        assert weights.bytes == (4 * 2 + 3) * 2


SPELLED = {
    "model.language_model.layers.0.self_attn.q_proj.weight": "language_model.model.layers.0.self_attn.q_proj.weight",
    "model.language_model.norm.weight": "language_model.model.norm.weight",
    "lm_head.weight": "language_model.lm_head.weight",
    "vision_tower.pre_layrnorm.bias": "vision_tower.vision_model.pre_layrnorm.bias",
    "model.vision_tower.pre_layrnorm.bias": "vision_tower.vision_model.pre_layrnorm.bias",
    "model.vision_tower.vision_model.pre_layrnorm.bias": "vision_tower.vision_model.pre_layrnorm.bias",
    "model.multi_modal_projector.linear_1.weight": "multi_modal_projector.linear_1.weight",
    "model.image_newline": "image_newline",
}


@pytest.mark.parametrize(("spelled", "name"), SPELLED.items())
def test_spellings(spelled: str, name: str, tmp_path: Path) -> None:
    """A tensor is found by the hub's name however transformers spelled it."""
    with Weights(write(tmp_path, {spelled: torch.ones(2)}), torch.float32) as weights:
        assert weights.has(name)
        same(weights.tensor(name, 2), torch.ones(2))
        assert weights.unused() == []


def test_the_exact_name_wins(tmp_path: Path) -> None:
    """A tensor stored under two spellings is the hub's; the other is left over."""
    both = {"lm_head.weight": torch.zeros(2), "language_model.lm_head.weight": torch.ones(2)}
    with Weights(write(tmp_path, both), torch.float32) as weights:
        same(weights.tensor("language_model.lm_head.weight", 2), torch.ones(2))
        assert weights.unused() == ["lm_head.weight"]


@pytest.mark.parametrize(
    "checkpoint",
    [Checkpoint(), Checkpoint(tied=True), Checkpoint("MistralForCausalLM"), Checkpoint("LlamaForCausalLM", "llama")],
    ids=["llava", "tied", "mistral", "llama"],
)
def test_whatever_transformers_writes(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """The installed version's ways to save a model, loaded or fresh, all give the tensors of the hub's file."""
    original = load_file(write_checkpoint(tmp_path / "original", checkpoint) / SINGLE)
    loaded = load_net(read_model(tmp_path / "original"))
    fresh = type(loaded)(loaded.config)
    fresh.load_state_dict(loaded.state_dict())
    for name, net in (("loaded", loaded), ("fresh", fresh)):
        net.save_pretrained(tmp_path / name)
        net.save_pretrained(tmp_path / f"{name}-module-tree", save_original_format=False)
        net.save_pretrained(tmp_path / f"{name}-shards", max_shard_size="50KB")
    write(tmp_path / "state", {name: tensor.clone() for name, tensor in loaded.state_dict().items()})
    assert len(list((tmp_path / "loaded-shards").glob("*.safetensors"))) > 1
    for folder in tmp_path.iterdir():
        with Weights(folder, torch.bfloat16) as weights:
            for name, tensor in original.items():
                same(weights.tensor(name, *tensor.shape), tensor)
            assert set(weights.unused()) <= {"lm_head.weight"}, folder.name  # of a tied state dict


MEASURE = """
import sys, torch
from pathlib import Path
from runtime.static.weights import Weights

def kilobytes(field):
    return int(Path("/proc/self/status").read_text().split(field + ":")[1].split()[0])

before = kilobytes("VmRSS")
weights = Weights(Path(sys.argv[1]), getattr(torch, sys.argv[2]))
kept = [weights.stacked([f"{n}.a", f"{n}.b"], [1024, 3072], 2048) for n in range(8)]
kept += [weights.tensor("table", 8000, 2048), *(weights.tensor(f"{n}.norm", 2048) for n in range(8))]
assert not weights.unused()
print((kilobytes("VmHWM") - before) * 1024 / weights.bytes)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from Linux's /proc")
@pytest.mark.parametrize(
    ("stored", "wanted"),
    [("bfloat16", "bfloat16"), ("float16", "bfloat16"), ("float32", "bfloat16"), ("bfloat16", "float32")],
)
def test_peak_memory(stored: str, wanted: str, tmp_path: Path) -> None:
    """A model of 84 million weights needs little more than itself: at most 15 % on top."""
    dtype = getattr(torch, stored)
    layers: list[Tensors] = [{"table": torch.ones(8000, 2048, dtype=dtype)}]
    layers += [
        {f"{n}.{name}": torch.ones(*shape, dtype=dtype) for name, shape in
         (("a", (1024, 2048)), ("b", (3072, 2048)), ("norm", (2048,)))}
        for n in range(8)
    ]  # fmt: skip
    folder = write(tmp_path, layers[0], {name: tensor for layer in layers[1:] for name, tensor in layer.items()})
    command = [sys.executable, "-c", MEASURE, str(folder), wanted]
    share = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert 0.95 < share < 1.15


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
