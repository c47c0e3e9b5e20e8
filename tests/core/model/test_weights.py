"""Finding the weights of a model, and telling models apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from runtime.model import read_model
from runtime.model.weights import BLOCK_BYTES, WHOLE_BELOW
from safetensors.torch import save_file
from support.checkpoints import write_json
from support.hub import refusal, write_hub


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """A folder with the hub's configs and a stand-in for the weights."""
    return write_hub(tmp_path / "llava")


def test_shards_are_found(hub: Path) -> None:
    """Every file that the index names must be there."""
    (hub / "model.safetensors").unlink()
    names = [f"model-0000{part}-of-00002.safetensors" for part in (1, 2)]
    write_json(hub / "model.safetensors.index.json", {"weight_map": dict(zip("abc", names + names[:1], strict=True))})
    save_file({"a": torch.zeros(3), "c": torch.zeros(3)}, hub / names[0])
    assert f"{names[1]} is named in model.safetensors.index.json but missing" in refusal(hub)
    save_file({"b": torch.zeros(3)}, hub / names[1])
    assert len(read_model(hub).digest) == 64


@pytest.mark.parametrize("name", ["../a.safetensors", "/etc/a.safetensors", "model.bin", "a/b.safetensors", 3, [], {}])
def test_an_index_cannot_point_elsewhere(hub: Path, name: Any) -> None:
    """Only plain names of safetensors files are followed."""
    (hub / "model.safetensors").unlink()
    write_json(hub / "model.safetensors.index.json", {"weight_map": {"a": name}})
    assert "weight_map" in refusal(hub)


@pytest.mark.parametrize(
    "name",
    ["config.json", "generation_config.json", "preprocessor_config.json", "tokenizer.json", "chat_template.jinja"],
)
def test_the_digest_tells_configs_apart(hub: Path, name: str) -> None:
    """A space more is another model; an unrelated file is not."""
    before = read_model(hub).digest
    (hub / "README.md").write_text("Hello")
    assert read_model(hub).digest == before
    text = (hub / name).read_text() if (hub / name).exists() else ""
    (hub / name).write_text(text + " ")
    assert read_model(hub).digest != before


def test_the_digest_tells_weights_apart(hub: Path) -> None:
    """One changed number is enough."""
    before = read_model(hub).digest
    save_file({"weight": torch.tensor([0.0, 1.0, 0.0])}, hub / "model.safetensors")
    assert read_model(hub).digest != before


def test_the_digest_samples_large_weights(hub: Path) -> None:
    """Of a file of 64 MiB or more the header and evenly spaced blocks count, the first and last byte among them."""
    file = hub / "model.safetensors"
    save_file({"weight": torch.zeros(WHOLE_BELOW, dtype=torch.uint8)}, file)
    digests = {read_model(hub).digest}
    size = file.stat().st_size
    for offset in (size - WHOLE_BELOW, size // 63 * 31, size - BLOCK_BYTES, size - 1):
        with file.open("r+b") as stream:
            stream.seek(offset)
            stream.write(b"\1")
        digests.add(read_model(hub).digest)
    assert len(digests) == 5
