"""Keys and values of every slot, in buffers that grow with the longest row."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch

GROWTH: Final = 256
"""Tokens by which the buffers grow, which copies them."""


class RowCache:
    """Buffers [slots, kv_heads, capacity, width] for the keys and the values of each layer.

    As long as the longest row so far. What no row has written to is zero.
    """

    def __init__(self, layers: int, slots: int, context: int, kv_heads: int, width: int, dtype: torch.dtype) -> None:
        self._shape = (slots, kv_heads, width)
        self._context = context
        self.dtype = dtype
        self.capacity = 0
        self.keys = [self._buffer(0) for _ in range(layers)]
        self.values = [self._buffer(0) for _ in range(layers)]

    def reserve(self, tokens: int) -> None:
        """Make room for rows of so many tokens, at most the context; what the slots hold stays."""
        if tokens <= self.capacity:
            return
        held, self.capacity = self.capacity, min(-(-tokens // GROWTH) * GROWTH, self._context)
        for buffers in (self.keys, self.values):
            for layer, old in enumerate(buffers):  # one after the other, so that one at a time is there twice
                buffers[layer] = self._buffer(self.capacity)
                buffers[layer][:, :, :held] = old

    def clear(self, slot: int) -> None:
        """Make a slot zero, which may hold what is no number: masked, that would still be none."""
        for buffers in (self.keys, self.values):
            for buffer in buffers:
                buffer[slot].zero_()

    def _buffer(self, capacity: int) -> torch.Tensor:
        slots, kv_heads, width = self._shape
        # NumPy's zeros take memory only where they are written to; PyTorch's touch every page.
        bits = np.zeros((slots, kv_heads, capacity, width), f"uint{8 * self.dtype.itemsize}")
        return torch.from_numpy(bits).view(self.dtype)
