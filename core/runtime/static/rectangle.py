"""Attention for a device of static shapes: rows padded on the right to a rectangle, keys and values in place."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from runtime.static.kernels import StaticKernels
from runtime.static.kv import KvCache


@dataclass(frozen=True, slots=True)
class WholeStep:
    """Prompts from their beginning.

    They attend to each other's fresh keys only, and as padding comes last, to be causal is all the mask it takes.
    """

    rows: int
    places: torch.Tensor  # int64 [rows * length]


@dataclass(frozen=True, slots=True)
class ResumedStep:
    """The rest of prompts whose beginning the slots hold."""

    rows: int
    places: torch.Tensor  # int64 [rows * length]
    window: torch.Tensor  # int64 [rows * window], the places that each row attends to
    mask: torch.Tensor  # dtype of the cache [rows, 1, length, window]


@dataclass(frozen=True, slots=True)
class DecodeStep:
    """One token for each of the first slots."""

    rows: int
    context: int
    places: torch.Tensor  # int64 [rows]
    mask: torch.Tensor  # dtype of the cache [rows, 1, 1, context]
    lengths: torch.Tensor  # int32 [rows], of what each row attends to


Step = WholeStep | ResumedStep | DecodeStep


class RectangleAttention:
    """Attention over a cache whose slots may be replaced, as long as nothing was recorded."""

    def __init__(self, kernels: StaticKernels) -> None:
        self._kernels = kernels
        self.cache: KvCache

    def __call__(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, step: Step
    ) -> torch.Tensor:
        """Append and attend; see `runtime.static.decoder.Attention`."""
        self.cache.write(layer, step.places, key, value)
        if isinstance(step, DecodeStep):
            past = self.cache.first(layer, step.rows, step.context)
            return self._kernels.attend_newest(query, *past, step.mask, step.lengths).flatten(1)
        query, key, value = (x.view(step.rows, -1, *x.shape[1:]).transpose(1, 2) for x in (query, key, value))
        if isinstance(step, WholeStep):
            seen = self._kernels.attend_causal(query, key, value)
        else:
            past = self.cache.gather(layer, step.window, step.rows)
            seen = self._kernels.attend_masked(query, *past, step.mask)
        return seen.transpose(1, 2).flatten(2).flatten(0, 1)


def mask_after(positions: torch.Tensor, window: int, dtype: torch.dtype) -> torch.Tensor:
    """Return what to add to scores so that each query sees the window up to its own position.

    positions int64 [rows, queries] -> [rows, 1, queries, window]: 0 or the least finite number, as some kernels make
    infinity times 0 of infinity. Every query sees the first place at least, so none sees nothing.
    """
    later = torch.arange(window, device=positions.device) > positions.unsqueeze(-1)
    return (later.to(dtype) * torch.finfo(dtype).min).unsqueeze(1)
