"""Rotary position embedding. The tables are given cosine first, and have the full width of the data."""

from __future__ import annotations

from enum import Enum
from typing import Any

from habana_frameworks.torch.hpex._function import PositionalFunction
from virtual_device import kernels as kernels  # registers the operators

import torch
from torch import Tensor


class RotaryPosEmbeddingMode(Enum):
    """What is rotated with what: the halves of a head, or neighbours."""

    BLOCKWISE = 0
    PAIRWISE = 1


def apply_rotary_pos_emb(p: Tensor, *args: Any) -> Tensor:
    """`args` are cos, sin, position_ids=None, offset=0 and mode=BLOCKWISE; in float32 if any of the three is."""
    if len(args) < 2:
        raise NotImplementedError("the virtual HPU does not emulate a combined table of cosine and sine")
    defaults = (None, 0, RotaryPosEmbeddingMode.BLOCKWISE)
    given: list[Any] = [*args, *defaults[len(args) - 2 :]]
    cos, sin, position_ids, offset, mode = given
    dtype = torch.float32 if torch.float32 in (p.dtype, cos.dtype, sin.dtype) else p.dtype
    p, cos, sin = p.to(dtype), cos.to(dtype), sin.to(dtype)
    result: Tensor = torch.ops.virtual_hpu.rotary(p, cos, sin, position_ids, offset, mode.value)
    return result


class RotaryPosEmbeddingHelperV1(PositionalFunction):
    """Tables that fit the data, from an offset."""

    @staticmethod
    def forward(ctx: Any, p: Tensor, cos: Tensor, sin: Tensor, offset: int) -> Tensor:
        return apply_rotary_pos_emb(p, cos, sin, None, offset, RotaryPosEmbeddingMode.BLOCKWISE)


class RotaryPosEmbeddingHelperV2(PositionalFunction):
    """Whole tables, (1, 1, positions, width), of which rows are taken by position."""

    @staticmethod
    def forward(ctx: Any, p: Tensor, cos: Tensor, sin: Tensor, position_ids: Tensor) -> Tensor:
        return apply_rotary_pos_emb(p, cos, sin, position_ids, 0, RotaryPosEmbeddingMode.BLOCKWISE)
