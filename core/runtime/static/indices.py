"""Where the tokens of a batch stand and where their keys go: computed on the host, copied once."""

from __future__ import annotations

import torch

from runtime.backend import DecodeBatch, PrefillBatch
from runtime.static.kv import KvCache


def prefill_indices(batch: PrefillBatch, cache: KvCache) -> list[torch.Tensor]:
    """Return, all int64 on the host:

    - [3, rows * length]: token, position and place of each; the place of padding is the scratch
    - [rows]: the last real token of each row, counted over the rectangle
    - [rows * window], only where tokens may be held already: the places that each row attends to
    """
    rows, length = batch.tokens.shape
    columns = torch.arange(length)
    positions = batch.offsets.unsqueeze(1) + columns  # [rows, length]
    is_real = columns < batch.lengths.unsqueeze(1)
    places = (batch.slots.unsqueeze(1) * cache.context + positions).where(is_real, cache.scratch)
    positions = positions.clamp(max=cache.context - 1)  # of padding, which has no place to stand
    ends = torch.arange(rows) * length + (batch.lengths - 1).clamp(min=0)
    indices = [torch.stack([batch.tokens, positions, places]).flatten(1), ends]
    if batch.shape.cached:
        window = min(batch.shape.cached + length, cache.context)
        begins = batch.slots.clamp(min=0) * cache.context  # nobody asks what a padding row has read
        indices.append((begins.unsqueeze(1) + torch.arange(window)).flatten())
    return indices


def decode_indices(batch: DecodeBatch, cache: KvCache) -> torch.Tensor:
    """Return token, position and place of each row: int64 [3, rows] on the host; idle rows write to the scratch."""
    places = torch.arange(len(batch.tokens)) * cache.context + batch.positions
    return torch.stack([batch.tokens, batch.positions, places.where(batch.active, cache.scratch)])
