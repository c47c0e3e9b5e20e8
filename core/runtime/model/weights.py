"""The weight files of a model folder: which they are, whether they are whole, and a digest of the model."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator
from pathlib import Path, PurePath
from typing import BinaryIO, Final

from runtime.errors import ModelRefused
from runtime.model.section import MAX_JSON_BYTES, Section, folder_name, is_integer, parse_section, read_section

SINGLE: Final = "model.safetensors"
INDEX: Final = "model.safetensors.index.json"
MAX_SHARDS: Final = 1024
PLAIN_NAME: Final = re.compile(r"[\w.-]{1,200}\.safetensors", re.ASCII)
PICKLES: Final = {".bin", ".pt", ".pth"}

DIGESTED_CONFIGS: Final = (
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer_config.json",
    "chat_template.json",
    "chat_template.jinja",
    "tokenizer.json",
)
"""Small files that change what a model answers."""

WHOLE_BELOW: Final = 64 * 2**20
BLOCKS: Final = 64
BLOCK_BYTES: Final = 64 * 2**10


def find_weights(folder: Path) -> tuple[Path, ...]:
    """Return the safetensors files in the order of their names, each checked to be whole.

    Raises ModelRefused when there are none, when a shard is missing and when a file is cut off.
    """
    names = weight_names(folder, {file.name for file in folder.iterdir()})
    files = tuple(folder / name for name in names)
    for file in files:
        _check_whole(file, folder_name(folder))
    return files


def weight_names(folder: Path, files: Collection[str]) -> tuple[str, ...]:
    """Return the sorted names of the safetensors files of a model that consists of `files`.

    Only the index has to be in the folder. Raises ModelRefused when there are no safetensors files.
    """
    model = folder_name(folder)
    if SINGLE in files:
        return (SINGLE,)
    if (index := read_section(folder, INDEX)) is not None:
        return tuple(sorted(_shards(index)))
    if any(PurePath(name).suffix in PICKLES for name in files):
        raise ModelRefused(
            f"Model {model} has its weights in pickle files, which can run code when read; "
            f"only safetensors are loaded. Get the model's safetensors files, or convert it."
        )
    raise ModelRefused(f"Model {model} has no weights: neither {SINGLE} nor {INDEX} exists.")


def _shards(index: Section) -> set[str]:
    """Return the file names of an index; only plain names, so that an index cannot point outside the folder."""
    names = list(index.section("weight_map").values.values())
    shards = {name for name in names if isinstance(name, str) and PLAIN_NAME.fullmatch(name)}
    if not 1 <= len(shards) <= MAX_SHARDS or not all(isinstance(name, str) and name in shards for name in names):
        raise index.refusal("weight_map", f"a map to the names of 1 to {MAX_SHARDS} safetensors files of this folder")
    return shards


def _check_whole(file: Path, model: str) -> None:
    """Compare the size with what the safetensors header promises; a cut-off download is common."""
    if not file.is_file():
        raise ModelRefused(f"Model {model}: {file.name} is named in {INDEX} but missing; download the file.")
    size = file.stat().st_size
    with file.open("rb") as stream:
        header_bytes = int.from_bytes(stream.read(8), "little")
        if not 2 <= header_bytes <= min(MAX_JSON_BYTES, size - 8):
            raise ModelRefused(
                f"Model {model}: {file.name} is not a safetensors file, or only a pointer to one; download it again."
            )
        header = parse_section(stream.read(header_bytes), model, f"{file.name}: header")
    ends = [_data_end(entry) for name, entry in header.values.items() if name != "__metadata__"]
    expected = 8 + header_bytes + max(ends, default=0)
    if size != expected:
        raise ModelRefused(
            f"Model {model}: {file.name} has {size} bytes but its header promises {expected}; download it again."
        )


def _data_end(entry: object) -> int:
    """Return where a tensor's bytes end, counted from the end of the header; 0 for an entry of another form."""
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    return offsets[-1] if isinstance(offsets, list) and offsets and is_integer(offsets[-1]) else 0


def digest(folder: Path, weights: tuple[Path, ...]) -> str:
    """Return the hex SHA-256 over configs, tokenizer and weights, file by file: name, size, content.

    The content of a file below 64 MiB is read in full. Of a larger one: its safetensors header, and 64 blocks of
    64 KiB spread evenly from the first byte to the last. A 15 GB model is told apart in a moment, but this is no
    proof against somebody who forges a file.
    """
    hasher = hashlib.sha256()
    configs = tuple(folder / name for name in DIGESTED_CONFIGS if (folder / name).is_file())
    for file in (*configs, *weights):
        size = file.stat().st_size
        hasher.update(f"{file.name}\0{size}\0".encode())
        with file.open("rb") as stream:
            for block in _whole(stream) if size < WHOLE_BELOW else _sample(stream, size):
                hasher.update(block)
    return hasher.hexdigest()


def _whole(stream: BinaryIO) -> Iterator[bytes]:
    while block := stream.read(2**20):
        yield block


def _sample(stream: BinaryIO, size: int) -> Iterator[bytes]:
    header_bytes = min(int.from_bytes(stream.read(8), "little"), MAX_JSON_BYTES)
    yield stream.read(header_bytes)
    for place in range(BLOCKS):
        stream.seek(place * (size - BLOCK_BYTES) // (BLOCKS - 1))
        yield stream.read(BLOCK_BYTES)
