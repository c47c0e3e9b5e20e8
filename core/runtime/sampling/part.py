"""Rows as the sampler sees them, and the part of a batch that needs something of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from runtime.runtime import SamplingParameters


class NextMask(Protocol):
    """The grammar of a row."""

    def mask(self) -> bytes: ...


class SampledRow(Protocol):
    """What the sampler reads of a row."""

    @property
    def sampling(self) -> SamplingParameters: ...

    @property
    def seed(self) -> int: ...

    @property
    def prompt(self) -> Sequence[int]: ...

    @property
    def generated(self) -> Sequence[int]:
        """The tokens chosen before; the sampler reads how many, and the newest."""
        ...

    @property
    def top_n(self) -> int:
        """Candidates to tell with each token."""
        ...

    @property
    def matcher(self) -> NextMask | None: ...


@dataclass(frozen=True, slots=True)
class Part:
    """Some rows of a batch."""

    rows: tuple[SampledRow, ...]
    index: torch.Tensor  # int64 [part], device; their places in the batch

    @classmethod
    def where(
        cls, wanted: Callable[[SampledRow], bool], rows: Sequence[SampledRow], device: torch.device
    ) -> Part | None:
        """Return the rows that want it, or None when there is none, so that nobody pays for what nobody uses."""
        places = [place for place, row in enumerate(rows) if wanted(row)]
        if not places:
            return None
        return cls(tuple(rows[place] for place in places), torch.tensor(places, device=device))
