"""The cache of keys and values: flat buffers in which every slot has a stretch of its own, and nothing ever moves."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from runtime.backend import ModelSpec

Pair = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, slots=True)
class CacheGeometry:
    """What a slot holds."""

    layers: int
    context: int
    """Tokens."""
    kv_heads: int
    width: int
    """Of a head."""
    dtype: torch.dtype

    @classmethod
    def of(cls, model: ModelSpec, context: int, dtype: torch.dtype) -> CacheGeometry:
        return cls(model.layers, context, model.kv_heads, model.decoder.head_dim, dtype)

    @property
    def token_bytes(self) -> int:
        """Size of the keys and values of one token."""
        return 2 * self.layers * self.kv_heads * self.width * self.dtype.itemsize

    @property
    def row_bytes(self) -> int:
        """Size of a slot."""
        return self.context * self.token_bytes


class KvCache:
    """Keys and values of all layers. A place is a slot's number x context + a position in it.

    Behind the last slot is one place of scratch, where padding is written to: every step writes all its tokens, so
    that the number of writes does not depend on how many are real.
    """

    def __init__(self, geometry: CacheGeometry, slots: int, device: torch.device) -> None:
        self.slots = slots
        self.context = geometry.context
        self.scratch = slots * geometry.context
        shape = (self.scratch + 1, geometry.kv_heads, geometry.width)
        # Zeros: a masked place counts 0 times what it holds, which must be a number.
        self._keys = [torch.zeros(shape, dtype=geometry.dtype, device=device) for _ in range(geometry.layers)]
        self._values = [torch.zeros(shape, dtype=geometry.dtype, device=device) for _ in range(geometry.layers)]

    def write(self, layer: int, places: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> None:
        """Put keys and values, [tokens, kv_heads, d] each, at places, int64 [tokens].

        What is no finite number is kept as 0: the row's own scores tell of it, and the next row of the slot, for
        which the place is masked, must not.
        """
        self._keys[layer].index_copy_(0, places, torch.nan_to_num(key, nan=0.0, posinf=0.0, neginf=0.0))
        self._values[layer].index_copy_(0, places, torch.nan_to_num(value, nan=0.0, posinf=0.0, neginf=0.0))

    def first(self, layer: int, slots: int, context: int) -> Pair:
        """Return keys and values of the first tokens of the first slots: views [slots, kv_heads, context, d]."""
        keys, values = (
            buffer.narrow(0, 0, slots * self.context)
            .view(slots, self.context, *buffer.shape[1:])
            .narrow(1, 0, context)
            .transpose(1, 2)
            for buffer in (self._keys[layer], self._values[layer])
        )
        return keys, values

    def gather(self, layer: int, places: torch.Tensor, rows: int) -> Pair:
        """Return keys and values at places, int64 [rows * window]: copies, [rows, kv_heads, window, d]."""
        keys, values = (
            buffer.index_select(0, places).view(rows, -1, *buffer.shape[1:]).transpose(1, 2)
            for buffer in (self._keys[layer], self._values[layer])
        )
        return keys, values
