"""Rows for the sampler, and a model that answers from a row's tokens alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from runtime.runtime import SamplingParameters
from runtime.sampling.part import NextMask


@dataclass(eq=False)
class PlainRow:
    """What the sampler reads of a row."""

    sampling: SamplingParameters = field(default_factory=SamplingParameters)
    seed: int = 0
    prompt: Sequence[int] = (1,)
    generated: list[int] = field(default_factory=list)
    top_n: int = 0
    matcher: NextMask | None = None
    known: int | None = None


def imagined_logits(row: PlainRow, vocabulary: int, spread: float = 2.0) -> torch.Tensor:
    """Random scores that depend on the row's tokens and on nothing else, float32 [vocabulary]."""
    state = 0
    for token in [*row.prompt, *row.generated]:
        state = (state * 31 + token + 1) % 2**31
    return spread * torch.randn(vocabulary, generator=torch.Generator().manual_seed(state))
