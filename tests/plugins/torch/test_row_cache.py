"""Buffers that grow with the longest row."""

from __future__ import annotations

import torch
from runtime_torch.row_cache import GROWTH, RowCache

CONTEXT = 3 * GROWTH + 5


def test_room_for_the_longest_row() -> None:
    """In steps, up to the context; what is there already is never given back."""
    cache = RowCache(2, 3, CONTEXT, 2, 4, torch.bfloat16)
    for tokens, capacity in ((1, GROWTH), (GROWTH, GROWTH), (GROWTH + 1, 2 * GROWTH), (CONTEXT, CONTEXT), (1, CONTEXT)):
        cache.reserve(tokens)
        assert cache.capacity == capacity
        for buffer in (*cache.keys, *cache.values):
            assert buffer.shape == (3, 2, capacity, 4)
            assert buffer.dtype is torch.bfloat16


def test_what_is_held_stays() -> None:
    """In its place, and all else is zero."""
    cache = RowCache(1, 2, CONTEXT, 1, 2, torch.float32)
    cache.reserve(3)
    cache.keys[0][1, 0, :3] = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    cache.reserve(CONTEXT)
    assert cache.keys[0][1, 0, :4].tolist() == [[1, 2], [3, 4], [5, 6], [0, 0]]
    assert int(cache.keys[0].count_nonzero()) == 6
    assert not cache.values[0].any()


def test_cleared_slot() -> None:
    """Is zero, whatever it held; the others are as they were."""
    cache = RowCache(2, 3, CONTEXT, 1, 2, torch.float32)
    cache.reserve(1)
    for buffer in (*cache.keys, *cache.values):
        buffer.fill_(1.0)
        buffer[1] = float("nan")
    cache.clear(1)
    for buffer in (*cache.keys, *cache.values):
        assert not buffer[1].any()
        assert bool((buffer[[0, 2]] == 1).all())
