"""Narrowing the candidates of rows, from as few of the vocabulary as hold all that is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from runtime.runtime import SamplingParameters
from runtime.sampling.candidates import Candidates, best_first
from runtime.sampling.filters import keep_mass, keep_top_k, keep_typical, strangeness


@dataclass(frozen=True, slots=True)
class Narrowed:
    """What rows may choose from, best first, ties in the order of ids."""

    ids: torch.Tensor  # int64 [rows, width]
    scores: torch.Tensor  # float32 [rows, width]; -inf where dropped
    is_whole: torch.Tensor  # bool [rows]; False where something kept is not among the ids: look at more


@dataclass(frozen=True, slots=True)
class Narrowing:
    """The filters of some rows, in the order of TGI: top-k, top-p, typical-p.

    Either all rows have a top-k or none has. The other filters are None when no row wants them, and 1 keeps all.
    """

    top_k: torch.Tensor | None  # int64 [rows], device
    top_p: torch.Tensor | None  # float32 [rows], device
    typical_p: torch.Tensor | None  # float32 [rows], device

    @classmethod
    def of(cls, parameters: Sequence[SamplingParameters], has_top_k: bool, device: torch.device) -> Narrowing:
        """Lay out the filters of some rows."""
        top_k = torch.tensor([row.top_k for row in parameters], device=device) if has_top_k else None
        top_p = _shares([row.top_p for row in parameters], device)
        return cls(top_k, top_p, _shares([row.typical_p for row in parameters], device))

    def narrowed(self, scores: torch.Tensor, width: int) -> Narrowed:
        """Apply the filters to `scores`, float32 [rows, vocabulary], looking at `width` ids, which hold any top-k."""
        if self.top_k is None and self.top_p is None and self.typical_p is not None:
            return _most_typical(scores, self.typical_p, width)
        best = Candidates.of(scores, width)
        kept = best.values
        if self.top_k is not None:
            kept = keep_top_k(kept, self.top_k)
        if self.top_p is not None:
            of_all = scores.log_softmax(dim=-1).gather(-1, best.ids) if self.top_k is None else kept.log_softmax(dim=-1)
            kept = keep_mass(kept, of_all.exp(), self.top_p)
        is_whole = best.hold(_worst(best.values, kept))
        if self.typical_p is not None:
            kept = keep_typical(kept, self.typical_p)
        return Narrowed(best.ids, kept, is_whole)


def _most_typical(scores: torch.Tensor, p: torch.Tensor, width: int) -> Narrowed:
    """Keep the most typical ids of the whole vocabulary; `filters.keep_typical` is for what filters have left."""
    logprobs = scores.log_softmax(dim=-1)
    nearest = Candidates.of(-strangeness(logprobs), width)
    kept = keep_mass(scores.gather(-1, nearest.ids), logprobs.gather(-1, nearest.ids).exp(), p)
    is_whole = nearest.hold(_worst(nearest.values, kept))
    return Narrowed(*best_first(nearest.ids, kept), is_whole)


def _worst(values: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """Return the lowest value of what was kept, [rows]."""
    return values.masked_fill(kept == -torch.inf, torch.inf).amin(dim=-1)


def _shares(values: Sequence[float], device: torch.device) -> torch.Tensor | None:
    return torch.tensor(values, device=device) if min(values) < 1 else None
