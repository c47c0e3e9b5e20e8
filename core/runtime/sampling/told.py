"""Rows whose best candidates are told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from runtime.sampling.part import Part, SampledRow


@dataclass(frozen=True, slots=True)
class Told:
    """A part of a group and how many candidates each of its rows wants, at least one."""

    part: Part
    counts: torch.Tensor  # int64 [part, 1], device
    most: int

    @classmethod
    def of(cls, rows: Sequence[SampledRow], vocabulary: int, device: torch.device) -> Told | None:
        """Return those of the rows that want any, or None when there is none."""
        part = Part.where(lambda row: row.top_n > 0, rows, device)
        if part is None:
            return None
        counts = [min(row.top_n, vocabulary) for row in part.rows]
        return cls(part, torch.tensor(counts, device=device)[:, None], max(counts))
