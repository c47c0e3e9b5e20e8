"""What the rows of one batch want of the sampler, laid out for the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch

from runtime.runtime import SamplingParameters
from runtime.sampling.history import History
from runtime.sampling.narrowing import Narrowing, narrowings
from runtime.sampling.noise import wrapped
from runtime.sampling.part import Part, SampledRow

COLDEST: Final = 1e-5
"""A lower temperature is as good as greedy, and would overflow the scores."""


@dataclass(frozen=True, slots=True)
class SamplingMix:
    """The parameters of the rows of one batch, as tensors on the logits' device; good while the rows are the same."""

    rows: tuple[SampledRow, ...]
    draws: torch.Tensor  # bool [rows]; False for greedy rows
    temperature: torch.Tensor  # float32 [rows]
    seeds: torch.Tensor  # int64 [rows], cpu
    any_draws: bool
    narrowings: tuple[Narrowing, ...]
    """In the order in which they apply."""
    history: History | None
    """Of the rows with a penalty."""
    watermarked: Part | None
    constrained: Part | None
    """Rows with a grammar."""
    told: Part | None
    """Rows whose best candidates are told."""


def prepare(rows: Sequence[SampledRow], vocabulary: int, device: torch.device) -> SamplingMix:
    """Lay out the parameters of the rows of a batch; host work, done when the rows change."""
    parameters = [row.sampling for row in rows]
    penalised = Part.where(lambda row: _has_penalty(row.sampling), rows, device)
    return SamplingMix(
        rows=tuple(rows),
        draws=torch.tensor([row.draws for row in parameters], device=device),
        temperature=torch.tensor([max(row.temperature, COLDEST) for row in parameters], device=device),
        seeds=torch.tensor([wrapped(row.seed) for row in rows]),
        any_draws=any(row.draws for row in parameters),
        narrowings=narrowings(rows, vocabulary, device),
        history=None if penalised is None else History(penalised, vocabulary),
        watermarked=Part.where(lambda row: row.sampling.watermark, rows, device),
        constrained=Part.where(lambda row: row.matcher is not None, rows, device),
        told=Part.where(lambda row: row.top_n > 0, rows, device),
    )


def _has_penalty(sampling: SamplingParameters) -> bool:
    others = (sampling.frequency_penalty, sampling.presence_penalty, sampling.frequency_share)
    return sampling.repetition_penalty != 1 or any(penalty != 0 for penalty in others)
