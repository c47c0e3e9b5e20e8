"""Attention for a device that takes any shape: rows of different lengths, no padding, keys and values in place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F

BLOCK: Final = 256
"""Queries of a prompt that are computed together: their scores stay in the processor's cache."""
MOST_WASTE: Final = 1.5
"""Rows are computed together when padding them to the longest costs at most so many times what is needed."""


@dataclass(frozen=True, slots=True)
class Span:
    """Consecutive tokens of one row."""

    start: int
    """Where they begin among the tokens of the step."""
    length: int
    slot: int
    offset: int
    """Tokens the slot holds before them."""


@dataclass(frozen=True, slots=True)
class PrefillStep:
    """Prompts, or parts of them, one behind the other."""

    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Rows of neighbouring slots that decode together, in the order of their slots."""

    start: int
    """The first row among the tokens of the step."""
    slot: int
    """The first slot."""
    count: int
    context: int
    """Tokens of the longest row, the new one included."""
    mask: torch.Tensor | None  # dtype of the cache [count, 1, 1, context], -inf behind the end of each row
    """None when all rows are equally long."""


@dataclass(frozen=True, slots=True)
class DecodeStep:
    """One new token for each row, in the order of their slots."""

    slots: torch.Tensor  # int64 [rows], cpu
    positions: torch.Tensor  # int64 [rows], cpu
    groups: tuple[Group, ...]


Step = PrefillStep | DecodeStep


class RaggedAttention:
    """The cache of keys and values, and attention over it."""

    def __init__(self, layers: int, slots: int, context: int, kv_heads: int, width: int, dtype: torch.dtype) -> None:
        shape = (slots, kv_heads, context, width)
        self._keys = [zeros(shape, dtype) for _ in range(layers)]
        self._values = [zeros(shape, dtype) for _ in range(layers)]
        self._kv_heads = kv_heads
        self._scale = width**-0.5
        self._future = torch.full((BLOCK, BLOCK), float("-inf"), dtype=dtype).triu(1)  # what a query may not see

    def __call__(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, step: Step
    ) -> torch.Tensor:
        """Append and attend; see `runtime.static.decoder.Attention`."""
        keys, values = self._keys[layer], self._values[layer]
        query = query.view(
            len(query), self._kv_heads, -1, query.shape[-1]
        )  # heads that share a key are rows of one matrix product
        seen = torch.empty_like(query, memory_format=torch.contiguous_format)
        if isinstance(step, PrefillStep):
            for span in step.spans:
                held = slice(span.start, span.start + span.length)
                end = span.offset + span.length
                keys[span.slot, :, span.offset : end] = key[held].transpose(0, 1)
                values[span.slot, :, span.offset : end] = value[held].transpose(0, 1)
                for head in range(self._kv_heads):
                    past = keys[span.slot, head, :end], values[span.slot, head, :end]
                    self._prefill(query[held, head], *past, seen[held, head])
        else:
            keys[step.slots, :, step.positions] = key
            values[step.slots, :, step.positions] = value
            for group in step.groups:
                slots, rows = slice(group.slot, group.slot + group.count), slice(group.start, group.start + group.count)
                past = keys[slots, :, : group.context], values[slots, :, : group.context]
                # The fused operator is slow for a single query, but not for the few that share a key.
                seen[rows] = F.scaled_dot_product_attention(query[rows], *past, group.mask, scale=self._scale)
        return seen.flatten(1)

    def _prefill(self, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, seen: torch.Tensor) -> None:
        """Let the last tokens of one row see those before: query [length, shared, width] -> `seen`, the same.

        keys, values [end, width]. Two matrix products a block: in bf16 the fused operator is several times slower on
        CPUs without AMX.
        """
        length, shared, width = query.shape
        for start in range(0, length, BLOCK):
            stop = min(start + BLOCK, length)
            rows, visible = stop - start, len(keys) - length + stop
            block = (query[start:stop] * self._scale).view(-1, width)
            scores = torch.mm(block, keys[:visible].t())
            scores.view(rows, shared, visible)[..., visible - rows :] += self._future[:rows, None, :rows]
            seen[start:stop] = torch.mm(scores.softmax(-1), values[:visible]).view(rows, shared, width)


def decode_step(slots: Sequence[int], positions: Sequence[int], dtype: torch.dtype) -> DecodeStep:
    """Plan one step of rows, given in the order of their slots, each with the position of its new token."""
    groups = tuple(_group(start, list(slots), list(positions), stop, dtype) for start, stop in _runs(slots, positions))
    return DecodeStep(torch.tensor(slots), torch.tensor(positions), groups)


def _runs(slots: Sequence[int], positions: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of runs of neighbouring slots whose rows are about equally long."""
    start = 0
    while start < len(slots):
        stop, longest, together = start, 0, 0
        while stop < len(slots) and slots[stop] - slots[start] == stop - start:
            longest, together = max(longest, positions[stop] + 1), together + positions[stop] + 1
            if longest * (stop + 1 - start) > MOST_WASTE * together:
                break
            stop += 1
        yield start, stop
        start = stop


def _group(start: int, slots: list[int], positions: list[int], stop: int, dtype: torch.dtype) -> Group:
    lengths = torch.tensor(positions[start:stop]) + 1
    context = int(lengths.max())
    mask = None
    if int(lengths.min()) < context:
        behind = torch.arange(context) >= lengths.unsqueeze(1)  # bool [count, context]
        mask = torch.zeros(behind.shape, dtype=dtype).masked_fill_(behind, float("-inf"))[:, None, None]
    return Group(start, slots[start], stop - start, context, mask)


def zeros(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Return zeros that take memory only where they are written to; torch.zeros touches every page."""
    import numpy

    return torch.from_numpy(numpy.zeros(shape, f"uint{8 * dtype.itemsize}")).view(dtype)
