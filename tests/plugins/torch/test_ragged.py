"""Attention over rows of different lengths, against one row and one query at a time in float64."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from runtime_torch.ragged import BLOCK, PrefillStep, RaggedAttention, Span, decode_step, strided
from runtime_torch.row_cache import RowCache

LAYERS, SLOTS, CONTEXT, KV_HEADS, SHARED, WIDTH = 2, 5, 700, 2, 3, 8
ROUNDING = {torch.float32: 1e-5, torch.bfloat16: 3e-2}
"""Of values of about 1."""


@dataclass
class Rows:
    """The attention under test, and what every slot holds, kept apart."""

    dtype: torch.dtype = torch.float32
    held: dict[int, list[tuple[torch.Tensor, torch.Tensor]]] = field(default_factory=dict)
    """(key, value), [kv_heads, width] each, of every token."""

    def __post_init__(self) -> None:
        self.generator = torch.Generator().manual_seed(0)
        self.cache = RowCache(LAYERS, SLOTS, CONTEXT, KV_HEADS, WIDTH, self.dtype)
        self.attention = RaggedAttention(self.cache, WIDTH)

    def prefill(self, parts: Sequence[tuple[int, int, int]]) -> None:
        """Append (slot, offset, length) of each row, and compare."""
        start, spans, owners = 0, [], []
        for slot, offset, length in parts:
            spans.append(Span(start, length, slot, offset))
            self.held[slot] = self.held.get(slot, [])[:offset]
            owners += [slot] * length
            start += length
        self.cache.reserve(max(offset + length for _, offset, length in parts))
        self._compare(owners, PrefillStep(tuple(spans)), behind=strided(len(owners)) - len(owners))

    def decode(self, slots: Sequence[int]) -> None:
        """Append a token to each of these slots, ascending, and compare."""
        positions = [len(self.held[slot]) for slot in slots]
        self.cache.reserve(max(positions) + 1)
        self._compare(slots, decode_step(slots, positions, self.cache))

    def _compare(self, owners: Sequence[int], step: object, behind: int = 0) -> None:
        count = len(owners) + behind
        query = self._random(count, KV_HEADS * SHARED)
        key, value = self._random(count, KV_HEADS), self._random(count, KV_HEADS)
        for layer in range(LAYERS):
            seen = self.attention(layer, query, key, value, step)  # type: ignore[arg-type]
            assert seen.shape == (count, KV_HEADS * SHARED * WIDTH)
            assert not seen[len(owners) :].any()
        for index, slot in enumerate(owners):
            self.held[slot].append((key[index], value[index]))
            wanted = self._one(query[index], slot)
            assert torch.allclose(seen[index].double(), wanted, rtol=ROUNDING[self.dtype], atol=ROUNDING[self.dtype])

    def _one(self, query: torch.Tensor, slot: int) -> torch.Tensor:
        """What the newest token of a slot sees, by the formula."""
        keys, values = (torch.stack(each).double() for each in zip(*self.held[slot], strict=True))
        parts = []
        for head in range(KV_HEADS * SHARED):
            scores = keys[:, head // SHARED] @ query[head].double() / WIDTH**0.5
            parts.append(scores.softmax(0) @ values[:, head // SHARED])
        return torch.cat(parts)

    def _random(self, tokens: int, heads: int) -> torch.Tensor:
        return torch.randn(tokens, heads, WIDTH, generator=self.generator).to(self.dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_prompts_and_steps(dtype: torch.dtype) -> None:
    """A prompt longer than a block, short ones beside it, then steps of all, of some and of one."""
    rows = Rows(dtype)
    rows.prefill([(3, 0, BLOCK + 40), (0, 0, 1), (1, 0, 17)])
    for slots in ([0, 1, 3], [1, 3], [0], [0, 1, 3]):
        rows.decode(slots)


def test_prompt_in_parts() -> None:
    """Each part sees those before it; the next row of the slot sees none of them."""
    rows = Rows()
    rows.prefill([(2, 0, 30), (0, 0, 9)])
    rows.prefill([(2, 30, BLOCK + 1), (0, 9, 1)])
    rows.prefill([(2, 30 + BLOCK + 1, 5)])
    rows.decode([0, 2])
    rows.prefill([(2, 0, 4)])
    rows.decode([0, 2])


def test_rest_of_a_prompt_that_another_row_began() -> None:
    """A slot that was given back is continued from anywhere before its end."""
    rows = Rows()
    rows.prefill([(1, 0, 50)])
    rows.decode([1])
    rows.prefill([(1, 33, 20)])
    rows.decode([1])


def test_as_long_as_the_context() -> None:
    """The last place can be written to, and read."""
    rows = Rows()
    rows.prefill([(4, 0, CONTEXT - 1), (3, 0, CONTEXT)])
    rows.decode([4])


@settings(max_examples=40)
@given(st.data())
def test_any_history(data: st.DataObject) -> None:
    """Rows come, go on in parts, decode in any company and are replaced."""
    rows = Rows()
    for _ in range(data.draw(st.integers(1, 6))):
        if rows.held and data.draw(st.booleans()):
            rows.decode(sorted(data.draw(st.sets(st.sampled_from(sorted(rows.held)), min_size=1))))
            continue
        slots = data.draw(st.lists(st.integers(0, SLOTS - 1), min_size=1, max_size=3, unique=True))
        rows.prefill(
            [
                (slot, data.draw(st.integers(0, min(len(rows.held.get(slot, [])), 100))), data.draw(st.integers(1, 60)))
                for slot in slots
            ]
        )
