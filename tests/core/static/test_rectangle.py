"""Padded rows, their cache and attention over them."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from runtime.backend import DecodeBatch, DecodeShape, PrefillBatch, PrefillShape
from runtime.static.indices import decode_indices, prefill_indices
from runtime.static.kernels import TorchStaticKernels
from runtime.static.kv import CacheGeometry, KvCache
from runtime.static.rectangle import DecodeStep, RectangleAttention, ResumedStep, WholeStep, mask_after

CONTEXT, SLOTS, WIDTH = 12, 4, 8
GEOMETRY = CacheGeometry(layers=1, context=CONTEXT, kv_heads=2, width=WIDTH, dtype=torch.float32)
CPU = torch.device("cpu")


def cache() -> KvCache:
    return KvCache(GEOMETRY, SLOTS, CPU)


def prefill(shape: PrefillShape, lengths: list[int], offsets: list[int], slots: list[int]) -> PrefillBatch:
    tokens = torch.arange(shape.rows * shape.length).view(shape.rows, shape.length)
    numbers = (torch.tensor(values) for values in (lengths, offsets, slots))
    return PrefillBatch(shape, tokens, *numbers, images=(None,) * shape.rows)


def test_indices_of_whole_prompts() -> None:
    """Two rows in slots 2 and 0 and one of padding: by hand."""
    indices, ends = prefill_indices(prefill(PrefillShape(3, 3), [2, 3, 0], [0, 0, 0], [2, 0, -1]), cache())
    assert indices.tolist() == [
        [0, 1, 2, 3, 4, 5, 6, 7, 8],
        [0, 1, 2, 0, 1, 2, 0, 1, 2],
        [24, 25, 48, 0, 1, 2, 48, 48, 48],
    ]
    assert ends.tolist() == [1, 5, 6]


def test_indices_of_the_rest_of_prompts() -> None:
    """A row of 2 tokens behind 8, and one of padding; the window ends with the slot, and positions do too."""
    batch = prefill(PrefillShape(2, 3, cached=10), [2, 0], [8, 11], [1, -1])
    indices, ends, window = prefill_indices(batch, cache())
    assert indices[1].tolist() == [8, 9, 10, 11, 11, 11]
    assert indices[2].tolist() == [20, 21, 48, 48, 48, 48]
    assert ends.tolist() == [1, 3]
    assert window.tolist() == [*range(12, 24), *range(12)]


def test_indices_of_a_decode_step() -> None:
    """An idle row writes to the scratch."""
    shape, active = DecodeShape(3, CONTEXT), torch.tensor([True, False, True])
    batch = DecodeBatch(shape, torch.tensor([7, 8, 9]), torch.tensor([4, 0, 11]), active)
    assert decode_indices(batch, cache()).tolist() == [[7, 8, 9], [4, 0, 11], [4, 48, 35]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_mask_hides_what_comes_after(dtype: torch.dtype) -> None:
    """Of each row by itself; nothing in it is infinite, and every query sees the first place."""
    mask = mask_after(torch.tensor([[0, 1], [3, 0]]), 4, dtype)
    assert mask.shape == (2, 1, 2, 4)
    assert mask.dtype == dtype
    assert (mask[:, 0] == 0).tolist() == [
        [[True, False, False, False], [True, True, False, False]],
        [[True, True, True, True], [True, False, False, False]],
    ]
    assert torch.isfinite(mask).all()
    assert mask.amin() == torch.finfo(dtype).min


def test_a_slot_has_a_size() -> None:
    """Keys and values of all layers: 2 x 1 x 2 heads x 8 x 4 bytes a token."""
    assert GEOMETRY.token_bytes == 128
    assert GEOMETRY.row_bytes == 128 * CONTEXT


def test_what_is_no_number_stays_with_its_row() -> None:
    """Masked places count 0 times what they hold, and 0 times infinity is no number."""
    held = cache()
    bad = torch.tensor([float("nan"), float("inf"), -float("inf")]).view(3, 1, 1).expand(3, 2, WIDTH)
    held.write(0, torch.tensor([0, 1, 2]), bad, bad)
    keys, values = held.first(0, 1, CONTEXT)
    assert torch.isfinite(keys).all()
    assert torch.isfinite(values).all()


def expected(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Attention of the last tokens of one row in fp64, head by head: query [n, heads, d]; keys, values [end, kv, d]."""
    (count, heads, width), end, kv_heads = query.shape, len(keys), keys.shape[1]
    seen = torch.zeros(count, heads, width, dtype=torch.float64)
    for head in range(heads):
        past = keys[:, head * kv_heads // heads].double(), values[:, head * kv_heads // heads].double()
        for index in range(count):
            visible = end - count + index + 1
            scores = past[0][:visible] @ query[index, head].double() / width**0.5
            seen[index, head] = scores.softmax(0) @ past[1][:visible]
    return seen.flatten(1)


@given(seed=st.integers(0, 2**32), heads=st.sampled_from([2, 4, 6]))
def test_every_row_sees_its_own_past(seed: int, heads: int) -> None:
    """Prompts whole and in two parts and decoded tokens, among rows of padding and in slots that were used before."""
    chance, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    attention = RectangleAttention(TorchStaticKernels())
    attention.cache = held = cache()
    everywhere = torch.randn(2, SLOTS * CONTEXT + 1, 2, WIDTH, generator=generator)
    held.write(0, torch.arange(SLOTS * CONTEXT + 1), everywhere[0], everywhere[1])  # left by earlier rows
    slots = chance.sample(range(SLOTS), 2)
    first, rest = [chance.randint(1, 5) for _ in slots], [chance.randint(1, 5) for _ in slots]

    def vectors(tokens: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        query = torch.randn(tokens, heads, WIDTH, generator=generator)
        key, value = torch.randn(2, tokens, 2, WIDTH, generator=generator)
        return query, key, value

    def check(row: int, seen: torch.Tensor, query: torch.Tensor) -> None:
        torch.testing.assert_close(seen.double(), expected(query, *rows[row]), rtol=1e-5, atol=1e-5)

    length = 6
    rows: list[tuple[torch.Tensor, torch.Tensor]] = []
    batch = prefill(PrefillShape(3, length), [*first, 0], [0, 0, 0], [*slots, -1])
    query, key, value = vectors(3 * length)
    indices, _ = prefill_indices(batch, held)
    seen = attention(0, query, key, value, WholeStep(3, indices[2]))
    for row, count in enumerate(first):
        real = slice(row * length, row * length + count)
        rows.append((key[real], value[real]))
        check(row, seen[real], query[real])

    batch = prefill(PrefillShape(3, length, cached=6), [*rest, 0], [*first, 0], [*slots, -1])
    query, key, value = vectors(3 * length)
    indices, _, window = prefill_indices(batch, held)
    mask = mask_after(indices[1].view(3, length), len(window) // 3, torch.float32)
    seen = attention(0, query, key, value, ResumedStep(3, indices[2], window, mask))
    for row, count in enumerate(rest):
        real = slice(row * length, row * length + count)
        rows[row] = torch.cat([rows[row][0], key[real]]), torch.cat([rows[row][1], value[real]])
        check(row, seen[real], query[real])

    positions, active = torch.zeros(SLOTS, dtype=torch.int64), torch.zeros(SLOTS, dtype=torch.bool)
    for slot, one, other in zip(slots, first, rest, strict=True):
        positions[slot], active[slot] = one + other, True
    shape = DecodeShape(max(slots) + 1, chance.randint(int(positions.max()) + 1, CONTEXT))
    step = DecodeBatch(shape, positions[: shape.rows], positions[: shape.rows], active[: shape.rows])
    query, key, value = vectors(shape.rows)
    mask = mask_after(step.positions.unsqueeze(1), shape.context, torch.float32)
    places = decode_indices(step, held)[2]
    lengths = (step.positions + 1).int()
    seen = attention(0, query, key, value, DecodeStep(shape.rows, shape.context, places, mask, lengths))
    for row, slot in enumerate(slots):
        real = slice(slot, slot + 1)
        rows[row] = torch.cat([rows[row][0], key[real]]), torch.cat([rows[row][1], value[real]])
        check(row, seen[real], query[real])
