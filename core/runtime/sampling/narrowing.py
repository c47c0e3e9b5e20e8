"""One way of narrowing the candidates, for those rows of a batch that ask for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from runtime.sampling.filters import keep_top_k, keep_top_p, keep_typical
from runtime.sampling.part import Part, SampledRow


@dataclass(frozen=True, slots=True)
class Narrowing:
    """A filter with its value for each row; other rows do not pay for the sort it needs."""

    keep: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    part: Part
    values: torch.Tensor  # [part], device

    def narrowed(self, scores: torch.Tensor) -> torch.Tensor:
        """Drop candidates; `scores` float32 [rows, vocabulary], in which rows that do not ask stay as they are."""
        own = self.keep(scores.index_select(0, self.part.index), self.values)
        return scores.index_copy(0, self.part.index, own)


def narrowings(rows: Sequence[SampledRow], vocabulary: int, device: torch.device) -> tuple[Narrowing, ...]:
    """Return the filters that drop something, in the order of TGI: top-k, top-p, typical-p."""
    found: list[Narrowing] = []
    if part := Part.where(lambda row: 0 < row.sampling.top_k < vocabulary, rows, device):
        ks = [row.sampling.top_k for row in part.rows]
        found.append(Narrowing(partial(keep_top_k, largest=max(ks)), part, torch.tensor(ks, device=device)))
    if part := Part.where(lambda row: row.sampling.top_p < 1, rows, device):
        ps = [row.sampling.top_p for row in part.rows]
        found.append(Narrowing(keep_top_p, part, torch.tensor(ps, device=device)))
    if part := Part.where(lambda row: row.sampling.typical_p < 1, rows, device):
        ps = [row.sampling.typical_p for row in part.rows]
        found.append(Narrowing(keep_typical, part, torch.tensor(ps, device=device)))
    return tuple(found)
