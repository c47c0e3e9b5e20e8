"""The weights of a model, read from its safetensors files straight into the layout the model wants."""

from __future__ import annotations

import json
import math
import mmap
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Final

import torch

from runtime.errors import BackendRefused
from runtime.static.shard import DTYPES, MAX_JSON_BYTES, Shard, Stored

CPU: Final = torch.device("cpu")

SINGLE: Final = "model.safetensors"
INDEX: Final = "model.safetensors.index.json"
MAX_SHARDS: Final = 1024
PLAIN_NAME: Final = re.compile(r"[\w.-]{1,200}\.safetensors", re.ASCII)

SPELLINGS: Final = {
    "language_model.model.": ("model.language_model.",),
    "language_model.lm_head.": ("lm_head.",),
    "vision_tower.vision_model.": ("vision_tower.", "model.vision_tower.", "model.vision_tower.vision_model."),
    "multi_modal_projector.": ("model.multi_modal_projector.",),
    "image_newline": ("model.image_newline",),
}
"""How names begin on the hub, and in files that transformers (4.52 to 5) wrote from its own module tree.

`save_pretrained` of transformers 5 drops `vision_model` from a model that was not loaded from the hub's names, and
with `save_original_format=False` writes the module tree as it is; the state dict of 4.5x still has `vision_model`.
"""

CHUNK_BYTES: Final = 4 * 2**20
"""Read at a time of a tensor that has to be converted."""

HALVES: Final = {torch.bfloat16, torch.float16}
"""Converted by way of fp32: it rounds to the same values, and torch converts between these two one by one."""

HUGE_PAGE: Final = 2 * 2**20


class Weights:
    """The tensors of a model folder, by the names the hub's files have; device thread only.

    A tensor is read when it is asked for, with no copy of it on the way: memory beyond the tensors handed out is one
    chunk of 4 MiB, and 8 MiB more where bf16 and fp16 meet. One for another device is made on the host and moved whole,
    as a device may have to prepare for every place that it is given a part at. Every method, and making one, raises
    BackendRefused when the files are not what they should be.
    """

    def __init__(self, folder: Path, dtype: torch.dtype, device: torch.device = CPU) -> None:
        """Open the files and check their headers."""
        self._dtype, self._device = dtype, device
        self._tensors: dict[str, Stored] = {}
        self._asked: set[str] = set()
        # Kept, as malloc does not always find the place of the last chunk again for the next one.
        self._chunk = torch.empty(CHUNK_BYTES, dtype=torch.uint8)
        self._wide = torch.empty(CHUNK_BYTES // 2, dtype=torch.float32)
        files = _file_names(folder)
        self._source = SINGLE if files == [SINGLE] else f"the {len(files)} files of {INDEX}"
        with ExitStack() as opened:
            for file in files:
                self._add(Shard(folder / file, opened))
            self._opened = opened.pop_all()

    @property
    def bytes(self) -> int:
        """Size of all tensors of the files in the target dtype."""
        return sum(math.prod(stored.shape) for stored in self._tensors.values()) * self._dtype.itemsize

    def has(self, name: str) -> bool:
        return any(spelling in self._tensors for spelling in _spellings(name))

    def tensor(self, name: str, *shape: int) -> torch.Tensor:
        """Return a tensor of this shape: [*shape], dtype and device as set."""
        return self._read([self._stored(name, shape)], shape)

    def stacked(self, names: Sequence[str], rows: Sequence[int], *rest: int) -> torch.Tensor:
        """Return tensors of [rows[i], *rest] one below the other: [sum(rows), *rest], dtype and device as set."""
        parts = [self._stored(name, (count, *rest)) for name, count in zip(names, rows, strict=True)]
        return self._read(parts, (sum(rows), *rest))

    def unused(self) -> list[str]:
        """Return the sorted names, as the files spell them, of tensors that were never read."""
        return sorted(self._tensors.keys() - self._asked)

    def close(self) -> None:
        """Close the files; tensors handed out stay."""
        self._opened.close()

    def __enter__(self) -> Weights:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _add(self, shard: Shard) -> None:
        for name in shard.tensors.keys() & self._tensors.keys():
            other = self._tensors[name].shard.name
            raise BackendRefused(f"tensor {name[:100]!r} is in {shard.name} and in {other}; download the model again")
        self._tensors |= shard.tensors

    def _stored(self, name: str, shape: tuple[int, ...]) -> Stored:
        """Find a tensor and check that it can be read as what is wanted."""
        found = next((self._tensors[spelling] for spelling in _spellings(name) if spelling in self._tensors), None)
        if found is None:
            raise BackendRefused(
                f"tensor {name} of shape {list(shape)} is missing from {self._source}; "
                f"weights and config.json must be of one model"
            )
        if found.shape != shape:
            raise BackendRefused(
                f"tensor {found.name} in {found.shard.name} has shape {list(found.shape)}, wanted is {list(shape)}; "
                f"weights and config.json must be of one model"
            )
        if found.dtype not in DTYPES:
            raise BackendRefused(
                f"tensor {found.name} in {found.shard.name} has dtype {found.dtype[:20]!r}; "
                f"read are {', '.join(DTYPES)}: convert the model"
            )
        return found

    def _read(self, parts: Sequence[Stored], shape: tuple[int, ...]) -> torch.Tensor:
        whole = _room(shape, self._dtype)
        flat, start = whole.view(-1), 0
        for part in parts:
            end = start + math.prod(part.shape)
            self._fill(flat[start:end], part)
            self._asked.add(part.name)
            start = end
        return whole.to(self._device)

    def _fill(self, place: torch.Tensor, part: Stored) -> None:
        """Read a tensor into its flat place, in one go where its bytes can stay as they are, else chunk by chunk."""
        dtype = DTYPES[part.dtype]
        if dtype == place.dtype:
            part.shard.read(part.offset, place)
            return
        chunk = self._chunk.view(dtype)
        for start in range(0, len(place), len(chunk)):
            target = place[start : start + len(chunk)]
            values = chunk[: len(target)]
            part.shard.read(part.offset + start * dtype.itemsize, values)
            if {dtype, place.dtype} == HALVES:
                values = self._wide[: len(target)].copy_(values)
            target.copy_(values)


def _file_names(folder: Path) -> list[str]:
    """Return which files hold the weights; only plain names, so that an index cannot point outside the folder."""
    try:
        if (folder / SINGLE).is_file():
            return [SINGLE]
        with (folder / INDEX).open("rb") as file:
            text = file.read(MAX_JSON_BYTES + 1)
    except OSError:
        raise BackendRefused(f"the model has no weights: neither {SINGLE} nor {INDEX} can be read") from None
    try:
        index = json.loads(text) if len(text) <= MAX_JSON_BYTES else None
    except (ValueError, RecursionError):
        index = None
    names = index.get("weight_map") if isinstance(index, dict) else None
    shards = set(map(str, names.values())) if isinstance(names, dict) else set()
    if not 1 <= len(shards) <= MAX_SHARDS or not all(PLAIN_NAME.fullmatch(shard) for shard in shards):
        raise BackendRefused(
            f"{INDEX} is no index of 1 to {MAX_SHARDS} safetensors files of its folder; download it again"
        )
    return sorted(shards)


def _spellings(name: str) -> Iterator[str]:
    """Yield the names that a tensor may have in a file, the hub's first."""
    yield name
    for ours, others in SPELLINGS.items():
        if name.startswith(ours):
            yield from (other + name.removeprefix(ours) for other in others)


def _room(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Return memory for a tensor; for a large one it is in huge pages, where the system grants them.

    A fresh page costs more than the copy into it: filled from the page cache, huge pages took a third of the time.
    """
    size = math.prod(shape) * dtype.itemsize
    if size < HUGE_PAGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.empty(shape, dtype=dtype)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # a kernel built without them
        memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=dtype).view(shape)
