"""What the host learns of a step: chosen ids, their log-probabilities, and the candidates asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Final

import torch

from runtime.sampling.group import Group, Picks

NOT_A_NUMBER: Final = -1
"""The id chosen for a row whose logits are not numbers."""
UNSETTLED: Final = -2
"""The id of a row for which more of the vocabulary must be looked at; never told."""

Scored = tuple[int, float]
"""An id and its log-probability."""


@dataclass(frozen=True, slots=True)
class Choices:
    """One chosen token per row."""

    ids: list[int]
    """`NOT_A_NUMBER` where the row's logits cannot be used."""
    logprobs: list[float]
    """Under the distribution the token was drawn from, after temperature and filters, as TGI reports it."""
    top: list[tuple[Scored, ...]]
    """The candidates a row asked for, best first, ties in the order of ids, by the same distribution; those of
    probability 0, which TGI tells as well, are left out."""

    @classmethod
    def unsettled(cls, count: int) -> Choices:
        """Return room for the choices of so many rows."""
        return cls([UNSETTLED] * count, [math.nan] * count, [()] * count)

    def read(self, groups: Sequence[Group], picks: Sequence[Picks], usable: torch.Tensor) -> None:
        """Bring the picks over in one copy; as floats, in which ids are exact up to 2**24.

        `usable` bool [rows of the batch]: whether a row's logits are numbers.
        """
        results = [_results(pick, group.part.of(usable)) for group, pick in zip(groups, picks, strict=True)]
        numbers = iter(torch.cat(list(chain.from_iterable(results))).tolist())
        for group, result in zip(groups, results, strict=True):
            self._take(group, list(islice(numbers, sum(map(len, result)))))

    def take_known(self, known: Sequence[int | None]) -> None:
        """Put the id of each row that knows it in place of the one chosen; not where the logits are unusable."""
        for place, id in enumerate(known):
            if id is not None and self.ids[place] != NOT_A_NUMBER:
                self.ids[place] = id

    def _take(self, group: Group, numbers: Sequence[float]) -> None:
        """Deal the numbers of `_results`."""
        count = len(group.part.places)
        for place, id, logprob in zip(group.part.places, numbers, numbers[count:], strict=False):
            self.ids[place], self.logprobs[place] = int(id), logprob
        if group.told is None:
            return
        told, best = group.told.part, numbers[2 * count :]
        half = len(best) // 2
        width = half // len(told.rows)
        for start, place, row in zip(range(0, half, width), told.places, told.rows, strict=True):
            end = start + min(row.top_n, width)
            scored = zip(map(int, best[start:end]), best[half + start : half + end], strict=True)
            self.top[group.part.places[place]] = tuple(each for each in scored if math.isfinite(each[1]))


def _results(pick: Picks, usable: torch.Tensor) -> list[torch.Tensor]:
    """Return ids, log-probabilities, the best ids and theirs; float32, flat."""
    ids = pick.ids if pick.is_settled is None else torch.where(pick.is_settled, pick.ids, UNSETTLED)
    best = () if pick.best is None else pick.best
    return [each.float().flatten() for each in (torch.where(usable, ids, NOT_A_NUMBER), pick.logprobs, *best)]
