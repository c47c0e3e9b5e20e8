"""Reading weights: the numbers of safetensors' own loader, in little memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from runtime.model import read_model
from runtime.static.weights import CHUNK_BYTES, Weights
from runtime_cpu_reference.net import load_net
from safetensors.torch import load_file
from support.checkpoints import Checkpoint, write_checkpoint
from support.weights import SINGLE, write

DTYPES = (torch.bfloat16, torch.float16, torch.float32)

Tensors = dict[str, torch.Tensor]


def noise(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    """Random bits, so every kind of number: subnormal, infinite, not a number."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-(2**15), 2**15, (*shape, 2), dtype=torch.int16, generator=generator).view(dtype)[..., 0]


def same(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


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
    [
        ("bfloat16", "bfloat16"),
        ("float32", "bfloat16"),
        pytest.param("float16", "bfloat16", marks=pytest.mark.long),
        pytest.param("bfloat16", "float32", marks=pytest.mark.long),
    ],
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
