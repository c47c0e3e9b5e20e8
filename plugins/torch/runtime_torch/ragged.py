"""Attention for a device that takes any shape: rows of different lengths, no padding, keys and values in place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F

from runtime_torch.row_cache import RowCache

BLOCK: Final = 256
"""Queries of a prompt that are computed together: their scores stay in the processor's cache."""
MOST_WASTE: Final = 1.5
"""Rows are computed together when padding them to the longest costs at most so many times what is needed."""
FEW: Final = 2
"""Rows up to which the fused operator is faster than matrix products of one query per head."""
STRIDE: Final = 32
"""Tokens by which products grow: oneDNN makes code for every size it meets, which takes time and is kept."""


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
    """Prompts, or parts of them, one behind the other; tokens behind the last count nothing."""

    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Rows of neighbouring slots that decode together, in the order of their slots."""

    rows: slice
    """Among the tokens of the step."""
    slots: slice
    context: int
    """Tokens of the cache that are read of each row: those of the longest, or some more."""
    mask: torch.Tensor | None  # dtype of the cache [rows, 1, 1, context], -inf behind the end of each row
    """None when every row ends at `context`."""


@dataclass(frozen=True, slots=True)
class DecodeStep:
    """One new token for each row, in the order of their slots."""

    slots: torch.Tensor  # int64 [rows], cpu
    positions: torch.Tensor  # int64 [rows], cpu
    groups: tuple[Group, ...]


Step = PrefillStep | DecodeStep


class RaggedAttention:
    """Attention over a cache of rows."""

    def __init__(self, cache: RowCache, width: int) -> None:
        self._cache = cache
        self._scale = width**-0.5
        self._scratch = torch.empty(0, dtype=cache.dtype)
        side = BLOCK + STRIDE
        future = torch.full((side, side), float("-inf"), dtype=cache.dtype)
        self._future = future.triu(1)  # what a query may not see

    def __call__(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, step: Step
    ) -> torch.Tensor:
        """Append and attend; see `runtime.static.decoder.Attention`."""
        keys, values = self._cache.keys[layer], self._cache.values[layer]
        # Heads that share a key are rows of one matrix product.
        query = query.view(len(query), keys.shape[1], -1, query.shape[-1])
        seen = torch.empty_like(query, memory_format=torch.contiguous_format)
        if isinstance(step, PrefillStep):
            for span in step.spans:
                held = slice(span.start, span.start + span.length)
                end = span.offset + span.length
                keys[span.slot, :, span.offset : end] = key[held].transpose(0, 1)
                values[span.slot, :, span.offset : end] = value[held].transpose(0, 1)
                for head in range(keys.shape[1]):
                    past = keys[span.slot, head], values[span.slot, head]
                    self._prefill(query[span.start :, head], *past, span, seen[held, head])
            seen[step.spans[-1].start + step.spans[-1].length :] = 0
        else:
            keys[step.slots, :, step.positions] = key
            values[step.slots, :, step.positions] = value
            for group in step.groups:
                past = keys[group.slots, :, : group.context], values[group.slots, :, : group.context]
                seen[group.rows] = self._decode(query[group.rows], *past, group.mask)
        return seen.flatten(1)

    def _decode(
        self, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        """Let one query per head, [rows, kv_heads, shared, width], see [rows, kv_heads, context, width]."""
        if len(query) <= FEW:
            return F.scaled_dot_product_attention(query, keys, values, mask, scale=self._scale)
        scores = torch.matmul(query * self._scale, self._dense(keys).transpose(2, 3))
        if mask is not None:
            scores += mask
        return torch.matmul(scores.softmax(-1), self._dense(values))

    def _dense(self, past: torch.Tensor) -> torch.Tensor:
        """Copy keys or values to where a matrix product finds them dense and near; it would make slower copies.

        Valid until the next call.
        """
        most = self._cache.keys[0].numel()
        if len(self._scratch) < most:
            self._scratch = torch.empty(most, dtype=past.dtype)
        return self._scratch[: past.numel()].view(past.shape).copy_(past)

    def _prefill(
        self, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, span: Span, seen: torch.Tensor
    ) -> None:
        """Let the tokens of a span see those before: query [its length or more, shared, width] -> `seen`, its length.

        keys, values [capacity, width]. Two matrix products a block: in bf16 the fused operator is several times slower
        on CPUs without AMX. Products go on to the next stride, over queries that are dropped and keys that are masked.
        """
        shared, width = query.shape[1:]
        for start in range(0, span.length, BLOCK):
            stop = min(start + BLOCK, span.length)
            first = span.offset + start  # the key of the first query's own token
            rows = min(strided(stop - start), len(query) - start)
            visible = min(strided(span.offset + stop), len(keys))
            block = (query[start : start + rows] * self._scale).view(-1, width)
            scores = torch.mm(block, keys[:visible].t())
            scores.view(rows, shared, visible)[..., first:] += self._future[:rows, None, : visible - first]
            seen[start:stop] = torch.mm(scores.softmax(-1), values[:visible]).view(rows, shared, width)[: stop - start]


def strided(tokens: int) -> int:
    """Return how many tokens are computed for so many."""
    return -(-tokens // STRIDE) * STRIDE


def decode_step(slots: Sequence[int], positions: Sequence[int], cache: RowCache) -> DecodeStep:
    """Plan one step of rows, given in the order of their slots, each with the position of its new token."""
    lengths = [position + 1 for position in positions]
    groups = tuple(_group(run, slots, lengths, cache) for run in _runs(slots, lengths))
    return DecodeStep(torch.tensor(slots), torch.tensor(positions), groups)


def _runs(slots: Sequence[int], lengths: Sequence[int]) -> Iterator[slice]:
    """Yield runs of neighbouring slots whose rows are about equally long."""
    start = 0
    while start < len(slots):
        stop, longest, together = start, 0, 0
        while stop < len(slots) and slots[stop] - slots[start] == stop - start:
            longest, together = max(longest, lengths[stop]), together + lengths[stop]
            if longest * (stop + 1 - start) > MOST_WASTE * together:
                break
            stop += 1
        yield slice(start, stop)
        start = stop


def _group(run: slice, slots: Sequence[int], lengths: Sequence[int], cache: RowCache) -> Group:
    chosen = torch.tensor(lengths[run])
    count, context = len(chosen), int(chosen.max())
    if count > FEW:
        context = min(strided(context), cache.capacity)
    mask = None
    if int(chosen.min()) < context:
        behind = torch.arange(context) >= chosen.unsqueeze(1)  # bool [rows, context]
        mask = torch.zeros(behind.shape, dtype=cache.dtype).masked_fill_(behind, float("-inf"))[:, None, None]
    return Group(run, slice(slots[run.start], slots[run.start] + count), context, mask)
