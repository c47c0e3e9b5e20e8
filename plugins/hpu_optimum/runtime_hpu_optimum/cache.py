"""Keys and values of all slots on the device, in the form optimum-habana's decoder takes and updates in place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import torch
import torch.nn.functional as F

from runtime_hpu_optimum.columns import Columns

SPARE: Final = 128
"""Columns beyond the longest row, so that packing, which moves the whole cache, is rare."""

Layers: TypeAlias = Sequence[tuple[torch.Tensor, torch.Tensor]]
"""Keys and values of each layer: [rows, kv_heads, columns, head_dim], device."""


@dataclass(frozen=True, slots=True)
class CacheShape:
    """The size of a cache."""

    layers: int
    rows: int
    kv_heads: int
    context: int
    """Tokens of the longest row."""
    head_dim: int


class Cache:
    """The same tensors as long as it lives, for a recorded graph has their addresses."""

    def __init__(self, shape: CacheShape, dtype: torch.dtype, device: torch.device) -> None:
        self.columns = Columns(shape.rows, shape.context + SPARE)
        self._device = device
        size = (shape.rows, shape.kv_heads, shape.context + SPARE, shape.head_dim)
        self.layers: Layers = tuple(
            (torch.zeros(size, dtype=dtype, device=device), torch.zeros(size, dtype=dtype, device=device))
            for _ in range(shape.layers)
        )

    def place(self, slot: int, length: int, layers: Layers) -> None:
        """Copy a prompt (each [1, kv_heads, padded length, head_dim]) into a slot, whatever that held."""
        self.columns.place(slot, length)
        row = torch.tensor([slot]).to(self._device)
        for mine, given in zip(self.layers, layers, strict=True):
            for cache, prompt in zip(mine, given, strict=True):
                # Zeros to the end: what is no number in a column spoils a row even where the mask leaves it out.
                cache.index_copy_(0, row, F.pad(prompt, (0, 0, 0, cache.shape[2] - prompt.shape[2])))

    def append(self, active: torch.Tensor) -> int:
        """Return the column for one more token of each active slot."""
        if self.columns.full:
            self.pack()
        return self.columns.append(active)

    def pack(self) -> None:
        """Free the columns that no slot needs."""
        source = self.columns.pack().to(self._device)[:, None, :, None]
        for layer in self.layers:
            for cache in layer:
                cache.copy_(cache.gather(2, source.expand_as(cache)))
