"""The best ids of every row at once, without sorting the whole vocabulary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch

WIDTHS: Final = (64, 256)
"""How many ids are looked at first, and then; after that the whole vocabulary is sorted.

Fixed, so that a row's numbers are the same to the bit whatever its neighbours want.
"""


def width_above(count: int, vocabulary: int) -> int:
    """Return the first width that holds `count` ids and one more, by which ties are seen."""
    return next((width for width in WIDTHS if count < width < vocabulary), vocabulary)


@dataclass(frozen=True, slots=True)
class Candidates:
    """Some ids of each row, best first, ties in the order of ids."""

    ids: torch.Tensor  # int64 [rows, width]
    values: torch.Tensor  # float32 [rows, width], descending
    unseen: torch.Tensor  # float32 [rows]; no id left out has a better value; -inf when none counts

    @classmethod
    def of(cls, values: torch.Tensor, width: int) -> Candidates:
        """Return the best ids of `values`, float32 [rows, vocabulary]."""
        if width >= values.shape[-1]:
            ordered, ids = values.sort(dim=-1, descending=True, stable=True)
            return cls(ids, ordered, torch.full_like(ordered[:, 0], -torch.inf))
        found = values.topk(width, dim=-1)
        ids, ordered = best_first(found.indices, found.values)
        return cls(ids, ordered, ordered[:, -1])

    def hold(self, worst: torch.Tensor) -> torch.Tensor:
        """Tell for each row whether it has all ids that are as good as `worst`, float32 [rows]; bool [rows]."""
        return (worst > self.unseen) | (self.unseen == -torch.inf)


def best_first(ids: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Order ids by their values, ties by id; both [rows, width]."""
    by_id, order = ids.sort(dim=-1)
    ordered, best = values.gather(-1, order).sort(dim=-1, descending=True, stable=True)
    return by_id.gather(-1, best), ordered
