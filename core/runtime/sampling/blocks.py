"""Rows cut into short blocks."""

from __future__ import annotations

from typing import Final

import torch

BLOCK: Final = 64


def blocks_of(values: torch.Tensor) -> torch.Tensor:
    """Cut each row of [rows, width] into [rows, blocks, BLOCK], with zeros after its end.

    Sums go over blocks first: a sum with a single result is split among threads, so that a row alone would get other
    numbers than a row with neighbours.
    """
    rows, width = values.shape
    return torch.nn.functional.pad(values, (0, -width % BLOCK)).view(rows, -1, BLOCK)
