"""Writing a checkpoint to a folder, shard by shard, so that one of 15 GB needs a third of that in memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from safetensors.torch import save_file

from benchmarks.checkpoint.config import config_json, generation_config_json, preprocessor_config_json
from benchmarks.checkpoint.geometry import GEOMETRIES, Geometry
from benchmarks.checkpoint.tokenizer import tokenizer_config, tokenizer_json
from benchmarks.checkpoint.weights import TensorSpec, tensors_of

SHARD_BYTES: Final = 4 * 10**9
INDEX: Final = "model.safetensors.index.json"


def checkpoint(name: str, folder: Path) -> Path:
    """Return the folder of the checkpoint of a geometry, below `folder`; it is written unless it is there."""
    path = folder / name
    if not (path / "config.json").exists():
        write_checkpoint(GEOMETRIES[name], path)
    return path


def write_checkpoint(geometry: Geometry, path: Path) -> None:
    """Write all files; config.json comes last, so a folder that has it is whole."""
    path.mkdir(parents=True, exist_ok=True)
    shards = list(_shards(tensors_of(geometry)))
    names = [f"model-{number:05d}-of-{len(shards):05d}.safetensors" for number in range(1, len(shards) + 1)]
    for name, shard in zip(names, shards, strict=True):
        save_file({spec.name: spec.make() for spec in shard}, path / name, metadata={"format": "pt"})
    index = {spec.name: name for name, shard in zip(names, shards, strict=True) for spec in shard}
    total = sum(spec.bytes for shard in shards for spec in shard)
    _write(path / INDEX, {"metadata": {"total_size": total}, "weight_map": index})
    _write(path / "tokenizer.json", tokenizer_json())
    _write(path / "tokenizer_config.json", tokenizer_config())
    _write(path / "generation_config.json", generation_config_json())
    _write(path / "preprocessor_config.json", preprocessor_config_json())
    _write(path / "config.json", config_json(geometry))


def _shards(tensors: Iterable[TensorSpec]) -> Iterator[list[TensorSpec]]:
    """Yield tensors that go into one file."""
    shard: list[TensorSpec] = []
    for spec in tensors:
        if shard and sum(held.bytes for held in shard) + spec.bytes > SHARD_BYTES:
            yield shard
            shard = []
        shard.append(spec)
    yield shard


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
