"""Files of weights, right and broken."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from runtime.errors import BackendRefused
from safetensors.torch import save_file
from support.checkpoints import write_json

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"


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


def refusal(call: Callable[[], object], folder: Path) -> str:
    """The message of the refusal: one line that does not tell where the folder is."""
    with pytest.raises(BackendRefused) as error:
        call()
    assert str(folder.parent) not in error.value.message
    assert "\n" not in error.value.message
    return error.value.message
