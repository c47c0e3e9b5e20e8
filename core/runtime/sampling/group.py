"""Rows of a batch for which a token is chosen in one way."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch

from runtime.sampling.candidates import WIDTHS, Candidates, width_above
from runtime.sampling.drawing import drawn
from runtime.sampling.narrowing import Narrowed, Narrowing
from runtime.sampling.part import Part, SampledRow
from runtime.sampling.told import Told
from runtime.sampling.way import Way

COLDEST: Final = 1e-5
"""A lower temperature is as good as greedy, and would overflow the scores."""


@dataclass(frozen=True, slots=True)
class Picks:
    """What was chosen for the rows of a group; on the logits' device."""

    ids: torch.Tensor  # int64 [rows]
    logprobs: torch.Tensor  # float32 [rows]; of the distribution drawn from, after temperature and filters
    is_settled: torch.Tensor | None  # bool [rows]; False where the ids looked at were too few; None when all are
    best: tuple[torch.Tensor, torch.Tensor] | None
    """Ids, int64 [told rows, most], and log-probabilities, float32, best first; ties in the order of ids."""


@dataclass(frozen=True, slots=True)
class Group:
    """A part of a batch and its parameters, laid out for the device."""

    way: Way
    width: int
    """Ids looked at where not all are needed."""
    part: Part
    temperature: torch.Tensor  # float32 [rows, 1], device
    narrowing: Narrowing | None
    told: Told | None

    @classmethod
    def of(cls, way: Way, width: int, part: Part, vocabulary: int) -> Group:
        """Lay out the parameters of a part whose rows all go this way."""
        device = part.index.device
        parameters = [row.sampling for row in part.rows]
        temperatures = [max(row.temperature, COLDEST) for row in parameters]
        return cls(
            way=way,
            width=width,
            part=part,
            temperature=torch.tensor(temperatures, device=device)[:, None],
            narrowing=Narrowing.of(parameters, way is Way.TOP_K, device) if way.narrows else None,
            told=Told.of(part.rows, vocabulary, device),
        )

    def wider(self, places: Sequence[int], rows: Sequence[SampledRow], vocabulary: int) -> Group:
        """Return a group for rows at some places of the batch that looks at more ids than this one."""
        part = Part.at(places, rows, self.part.index.device)
        return Group.of(self.way, width_above(self.width, vocabulary), part, vocabulary)

    def pick(self, scores: torch.Tensor, noise: torch.Tensor | None) -> Picks:
        """Choose; `scores` float32 [rows of the batch, vocabulary], `noise` float32 [rows of the batch] in [0, 1).

        The best are chosen without noise.
        """
        own = self.part.of(scores)
        if noise is None or self.way is Way.BEST:
            return self._from_all(own, own.max(dim=-1).indices)
        own, noise = own / self.temperature, self.part.of(noise)
        if self.narrowing is None:
            return self._from_all(own, drawn(own.softmax(dim=-1), noise))
        return self._from_few(self.narrowing.narrowed(own, self.width), noise)

    def _from_all(self, scores: torch.Tensor, ids: torch.Tensor) -> Picks:
        logprobs = scores.log_softmax(dim=-1)
        if self.told is None:
            return Picks(ids, _at(ids, logprobs), None, None)
        told = self.told.part
        best = Candidates.of(told.of(scores), self.width)
        worst = best.values.gather(-1, self.told.counts - 1).squeeze(-1)
        best_ids = best.ids[:, : self.told.most]
        best_logprobs = told.of(logprobs).gather(-1, best_ids)
        settled = told.put(torch.ones_like(ids, dtype=torch.bool), best.hold(worst))
        return Picks(ids, _at(ids, logprobs), settled, (best_ids, best_logprobs))

    def _from_few(self, narrowed: Narrowed, noise: torch.Tensor) -> Picks:
        logprobs = narrowed.scores.log_softmax(dim=-1)
        place = drawn(logprobs.exp(), noise)
        best = None
        if self.told is not None:
            best_ids, best_logprobs = self.told.part.of(narrowed.ids), self.told.part.of(logprobs)
            best = best_ids[:, : self.told.most], best_logprobs[:, : self.told.most]
        return Picks(_at(place, narrowed.ids), _at(place, logprobs), narrowed.is_whole, best)


def groups_of(rows: Sequence[SampledRow], vocabulary: int, device: torch.device) -> tuple[Group, ...]:
    """Divide the rows of a batch; each row is in one group."""
    places: dict[tuple[Way, int], list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        way = Way.of(row.sampling, vocabulary)
        places[way, _first_width(way, row, vocabulary)].append(place)
    return tuple(Group.of(way, width, Part.at(own, rows, device), vocabulary) for (way, width), own in places.items())


def _first_width(way: Way, row: SampledRow, vocabulary: int) -> int:
    match way:
        case Way.BEST | Way.FROM_ALL:
            return width_above(row.top_n, vocabulary)
        case Way.TOP_K:
            return width_above(row.sampling.top_k, vocabulary)
        case Way.TOP_P | Way.TYPICAL:  # how many that takes is not known; looking again costs more than looking at more
            return width_above(WIDTHS[0], vocabulary)


def _at(places: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Return one of the values of each row, [rows]."""
    return values.gather(-1, places[:, None]).squeeze(-1)
