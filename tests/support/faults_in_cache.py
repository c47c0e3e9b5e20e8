"""Mistakes in where a row lies: its positions, its slot, its keys and values."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from runtime.backend import PrefillBatch
from runtime.static import backend as backend_module
from runtime.static.kv import KvCache
from runtime.static.rectangle import mask_after

Patch = pytest.MonkeyPatch


def last_column(patch: Patch) -> None:
    """Scores of a prompt taken after its padding."""
    right = backend_module.prefill_indices

    def wrong(batch: PrefillBatch, cache: KvCache) -> list[torch.Tensor]:
        indices = right(batch, cache)
        rows, length = batch.tokens.shape
        return [indices[0], torch.arange(rows) * length + length - 1, *indices[2:]]

    patch.setattr(backend_module, "prefill_indices", wrong)


def resumed_position(patch: Patch) -> None:
    """Resumed prompts go on one position too late."""
    right = backend_module.prefill_indices

    def wrong(batch: PrefillBatch, cache: KvCache) -> list[torch.Tensor]:
        first, *rest = right(batch, cache)
        return [first + torch.tensor([[0], [int(batch.offsets.any())], [0]]), *rest]

    patch.setattr(backend_module, "prefill_indices", wrong)


def decode_position(patch: Patch) -> None:
    """Decoding one position too late, and so seeing one place too many."""
    right = backend_module.decode_indices
    patch.setattr(backend_module, "decode_indices", lambda *given: right(*given) + torch.tensor([[0], [1], [0]]))


def left_over(patch: Patch) -> None:
    """Decoding sees what an earlier row left in the slot."""

    def wrong(positions: torch.Tensor, window: int, dtype: torch.dtype) -> torch.Tensor:
        mask = mask_after(positions, window, dtype)
        return torch.zeros_like(mask) if positions.shape[1] == 1 else mask

    patch.setattr(backend_module, "mask_after", wrong)


def own_token_hidden(patch: Patch) -> None:
    """Decoding does not see its own token."""

    def wrong(positions: torch.Tensor, window: int, dtype: torch.dtype) -> torch.Tensor:
        late = positions - int(positions.shape[1] == 1)
        return mask_after(late.clamp(min=0), window, dtype)

    patch.setattr(backend_module, "mask_after", wrong)


def wrong_slot(patch: Patch) -> None:
    """Prompts written into the slots of their rows, not into those they were given."""
    right = backend_module.prefill_indices

    def wrong(batch: PrefillBatch, cache: KvCache) -> list[torch.Tensor]:
        rows = torch.arange(len(batch.slots)).where(batch.slots >= 0, -1)
        return right(replace(batch, slots=rows), cache)

    patch.setattr(backend_module, "prefill_indices", wrong)


def padding_written(patch: Patch) -> None:
    """Padding and idle rows write where slot 0 begins."""
    right = KvCache.__init__

    def wrong(self: Any, *given: Any) -> None:
        right(self, *given)
        self.scratch = 0

    patch.setattr(KvCache, "__init__", wrong)


def narrow_cache(patch: Patch) -> None:
    """Keys and values of a bf16 backend kept in 8 bits."""
    right = KvCache.write

    def wrong(self: Any, layer: int, places: torch.Tensor, *given: torch.Tensor) -> None:
        right(self, layer, places, *(each.to(torch.float8_e4m3fn).to(each.dtype) for each in given))

    patch.setattr(KvCache, "write", wrong)


def bf16_rope(patch: Patch) -> None:
    """Decoding of a bf16 backend one position too late."""
    decode_position(patch)
