"""One safetensors file, opened and checked.

Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from runtime.errors import BackendRefused

MAX_JSON_BYTES: Final = 16 * 2**20
MAX_DIMENSIONS: Final = 8

UNREADABLE: Final = "cannot be read; see that it is there and allowed to be read, or download it again"

DTYPES: Final = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
"""What is read. A file may hold others (index tables of old checkpoints), as long as nobody asks for them."""


@dataclass(frozen=True, slots=True)
class Stored:
    """Where a tensor lies, and what it is."""

    shard: Shard
    name: str
    """As the file spells it."""
    dtype: str
    """As the file spells it; one of DTYPES, or one that cannot be read."""
    shape: tuple[int, ...]
    offset: int
    """Of its first byte, from the beginning of the file."""
    size: int
    """Bytes."""


class Shard:
    """An open safetensors file and the tensors its header lists; read at positions, never mapped.

    A mapping would count as the process's memory, page by page as it is read, next to the tensors made from it.
    Raises BackendRefused for a file that is no safetensors file, is cut off, or changes its size.
    """

    def __init__(self, path: Path, opened: ExitStack) -> None:
        """Open the file and check its header; it is closed with `opened`."""
        self.name = path.name
        try:
            self._file = opened.enter_context(path.open("rb", buffering=0))
            self._size = os.fstat(self._file.fileno()).st_size
            self.tensors = self._listed()
        except OSError:
            raise self._refusal(UNREADABLE) from None

    def read(self, offset: int, into: torch.Tensor) -> None:
        """Fill a contiguous CPU tensor with the bytes from `offset` on."""
        rest = into.view(torch.uint8).numpy().data
        try:
            while rest and (count := os.preadv(self._file.fileno(), [rest], offset)):
                rest, offset = rest[count:], offset + count
            size = os.fstat(self._file.fileno()).st_size
        except OSError:
            raise self._refusal(UNREADABLE) from None
        if rest or size != self._size:
            raise self._refusal("changed while it was read; start again when nothing writes to it")

    def _listed(self) -> dict[str, Stored]:
        """Parse the header: its length (8 bytes, little-endian), then JSON; the tensors' bytes follow."""
        length = int.from_bytes(self._file.read(8), "little")
        if not 2 <= length <= min(MAX_JSON_BYTES, self._size - 8):
            raise self._refusal("is not a safetensors file, or only a pointer to one; download it again")
        try:
            header = json.loads(self._file.read(length))
        except (ValueError, RecursionError):
            header = None
        if not isinstance(header, dict):
            raise self._refusal("has no valid JSON object as its header; download it again")
        data = 8 + length
        tensors = {name: self._stored(name, entry, data) for name, entry in header.items() if name != "__metadata__"}
        promised = max((stored.offset + stored.size for stored in tensors.values()), default=data)
        if promised != self._size:
            raise self._refusal(f"has {self._size} bytes but its header promises {promised}; download it again")
        return tensors

    def _stored(self, name: str, entry: object, data: int) -> Stored:
        """Check one entry of the header for form; `data` is where the tensors' bytes begin."""
        match entry:
            case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [begin, end]} if len(
                shape
            ) <= MAX_DIMENSIONS and all(_is_count(number) for number in (*shape, begin, end)):
                size = end - begin
                if size == (math.prod(shape) * DTYPES[dtype].itemsize if dtype in DTYPES else max(size, 0)):
                    return Stored(self, name, dtype, tuple(shape), data + begin, size)
        raise self._refusal(f"has a malformed entry for tensor {name[:100]!r} in its header; download it again")

    def _refusal(self, why: str) -> BackendRefused:
        return BackendRefused(f"{self.name} {why}")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
