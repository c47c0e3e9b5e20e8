"""What the rows of one batch want of the sampler, laid out for the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from runtime.runtime import SamplingParameters
from runtime.sampling.group import Group, groups_of
from runtime.sampling.history import History, PromptCounts
from runtime.sampling.noise import Words
from runtime.sampling.part import Part, SampledRow


@dataclass(frozen=True, slots=True)
class SamplingMix:
    """The parameters of the rows of one batch, as tensors on the logits' device; good while the rows are the same."""

    rows: tuple[SampledRow, ...]
    seeds: Words | None
    """Of all rows; None when none draws."""
    groups: tuple[Group, ...]
    """Each row is in one of them."""
    history: History | None
    """Of the rows with a penalty."""
    watermarked: Part | None
    constrained: Part | None
    """Rows with a grammar."""


def prepare(rows: Sequence[SampledRow], vocabulary: int, device: torch.device, prompts: PromptCounts) -> SamplingMix:
    """Lay out the parameters of the rows of a batch; host work, done when the rows change."""
    penalised = Part.where(lambda row: _has_penalty(row.sampling), rows, device)
    return SamplingMix(
        rows=tuple(rows),
        seeds=np.array([row.seed for row in rows], np.uint64) if any(row.sampling.draws for row in rows) else None,
        groups=groups_of(rows, vocabulary, device),
        history=None if penalised is None else History(penalised, vocabulary, prompts),
        watermarked=Part.where(lambda row: row.sampling.watermark, rows, device),
        constrained=Part.where(lambda row: row.matcher is not None, rows, device),
    )


def _has_penalty(sampling: SamplingParameters) -> bool:
    others = (sampling.frequency_penalty, sampling.presence_penalty, sampling.frequency_share)
    return sampling.repetition_penalty != 1 or any(penalty != 0 for penalty in others)
