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
    """What the sampler reads of a row, which can be referred to weakly."""

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

    @property
    def known(self) -> int | None:
        """The next token, where it was chosen before and is computed again."""
        ...


@dataclass(frozen=True, slots=True)
class Part:
    """Some rows of a batch."""

    rows: tuple[SampledRow, ...]
    places: tuple[int, ...]
    """Where they stand in the batch, ascending."""
    index: torch.Tensor  # int64 [part], device; the places
    is_all: bool
    """Whether it is the whole batch."""

    @classmethod
    def at(cls, places: Sequence[int], rows: Sequence[SampledRow], device: torch.device) -> Part:
        """Return the rows at some places of a batch."""
        index = torch.tensor(places, device=device)
        return cls(tuple(rows[place] for place in places), tuple(places), index, len(places) == len(rows))

    @classmethod
    def where(
        cls, wanted: Callable[[SampledRow], bool], rows: Sequence[SampledRow], device: torch.device
    ) -> Part | None:
        """Return the rows that want it, or None when there is none, so that nobody pays for what nobody uses."""
        places = [place for place, row in enumerate(rows) if wanted(row)]
        return cls.at(places, rows, device) if places else None

    def of(self, values: torch.Tensor) -> torch.Tensor:
        """Return the part's share of something that has one entry per row of the batch."""
        return values if self.is_all else values.index_select(0, self.index)

    def put(self, values: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
        """Return `values` with the part's share replaced."""
        return own if self.is_all else values.index_copy(0, self.index, own)
