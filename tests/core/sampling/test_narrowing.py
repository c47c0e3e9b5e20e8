"""The filters together against their definitions, and few candidates against the whole vocabulary."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from hypothesis import given
from hypothesis import strategies as st
from runtime.runtime import SamplingParameters
from runtime.sampling.narrowing import Narrowed, Narrowing

CPU = torch.device("cpu")
FEW, MANY = 6, 300
FILTERS = st.builds(
    SamplingParameters,
    top_k=st.sampled_from([0, 1, 3, 5]),
    top_p=st.sampled_from([0.0, 0.3, 0.8, 0.97, 1.0]),
    typical_p=st.sampled_from([0.2, 0.7, 0.95, 1.0]),
).filter(lambda row: row.top_k > 0 or row.top_p < 1 or row.typical_p < 1)


class RoundingDecidesError(Exception):
    """Two things are too near for float32 to be held to an order."""


def narrowed(scores: torch.Tensor, parameters: SamplingParameters, width: int) -> Narrowed:
    """Narrow rows that all have the same parameters."""
    return Narrowing.of([parameters] * len(scores), parameters.top_k > 0, CPU).narrowed(scores, width)


def kept(result: Narrowed) -> list[set[int]]:
    pairs = zip(result.ids.tolist(), result.scores.tolist(), strict=True)
    return [{id for id, score in zip(ids, scores, strict=True) if score > -math.inf} for ids, scores in pairs]


@dataclass
class Definition:
    """What a row keeps by the definition of the filters, in float64, one id after the other."""

    scores: dict[int, float]

    @property
    def probabilities(self) -> dict[int, float]:
        weights = {id: math.exp(score) for id, score in self.scores.items()}
        return {id: weight / sum(weights.values()) for id, weight in weights.items()}

    def kept(self, parameters: SamplingParameters) -> set[int]:
        if parameters.top_k > 0:
            better = {id: sum(other > score for other in self.scores.values()) for id, score in self.scores.items()}
            self.scores = {id: score for id, score in self.scores.items() if better[id] < parameters.top_k}
        if parameters.top_p < 1:
            self._keep_mass(sorted(self.scores, key=lambda id: (-self.scores[id], id)), parameters.top_p)
        if parameters.typical_p < 1:
            self._keep_mass(self._most_typical_first(), parameters.typical_p)
        return set(self.scores)

    def _most_typical_first(self) -> list[int]:
        probabilities = self.probabilities
        entropy = -sum(p * math.log(p) for p in probabilities.values())
        distance = {id: abs(-math.log(p) - entropy) for id, p in probabilities.items()}
        order = sorted(self.scores, key=lambda id: (round(distance[id], 9), -self.scores[id], id))
        for one, other in itertools.pairwise(order):
            if self.scores[one] != self.scores[other] and abs(distance[one] - distance[other]) < 1e-4:
                raise RoundingDecidesError
        return order

    def _keep_mass(self, order: list[int], p: float) -> None:
        probabilities, mass, rest = self.probabilities, 0.0, {}
        for id in order:
            if rest and abs(mass - p) < 1e-4:
                raise RoundingDecidesError
            if rest and mass >= p:
                break
            rest[id] = self.scores[id]
            mass += probabilities[id]
        self.scores = rest


@given(st.lists(st.lists(st.integers(-40, 40), min_size=FEW, max_size=FEW), min_size=1, max_size=3), FILTERS)
def test_what_is_kept_follows_the_definitions(rows: list[list[int]], parameters: SamplingParameters) -> None:
    """Top-k with its ties, then the nucleus, then the most typical; ties go to the lower id."""
    scores = torch.tensor(rows, dtype=torch.float32) / 8
    for row, ids in zip(scores.tolist(), kept(narrowed(scores, parameters, FEW)), strict=True):
        try:
            assert ids == Definition(dict(enumerate(row))).kept(parameters)
        except RoundingDecidesError:
            continue


@given(st.integers(0, 1000), st.sampled_from([0.1, 2.0, 8.0]), st.sampled_from([4, 10_000]), FILTERS)
def test_few_candidates_give_what_all_give(seed: int, spread: float, steps: int, p: SamplingParameters) -> None:
    """Rows that are told to be whole keep the same ids, best first; flat and steep, with few or many ties."""
    generator = torch.Generator().manual_seed(seed)
    scores = (torch.randn(3, MANY, generator=generator) * spread * steps).round() / steps
    scores[0, seed % MANY :] = -torch.inf
    scores[0, 0] = 1.0
    every = narrowed(scores, p, MANY)
    assert every.is_whole.all()
    few = narrowed(scores, p, 64)
    for row, is_whole in enumerate(few.is_whole.tolist()):
        count = int((every.scores[row] > -torch.inf).sum())
        assert is_whole or count > 1
        if is_whole and not _rounding_decides(scores[row], p):
            assert kept(few)[row] == kept(every)[row]


def test_too_few_candidates_are_told() -> None:
    """Of 100 equal scores 90 make up 0.9: 64 are not enough, for top-p as for typical-p; 300 are."""
    scores = torch.full((1, MANY), -torch.inf)
    scores[0, 100:200] = 0.0
    for parameters in (SamplingParameters(top_p=0.895), SamplingParameters(typical_p=0.895)):
        assert narrowed(scores, parameters, 64).is_whole.tolist() == [False]
        assert kept(narrowed(scores, parameters, MANY)) == [set(range(100, 190))]


def test_numbers_do_not_depend_on_what_neighbours_want() -> None:
    """A row with a top-k alone keeps its scores to the bit beside one with all filters."""
    scores = torch.randn(1, MANY, generator=torch.Generator().manual_seed(0))
    alone = narrowed(scores, SamplingParameters(top_k=5), 64)
    rows = [SamplingParameters(top_k=5), SamplingParameters(top_k=9, top_p=0.5, typical_p=0.5)]
    beside = Narrowing.of(rows, True, CPU).narrowed(scores.expand(2, -1), 64)
    assert beside.ids[0].equal(alone.ids[0])
    assert beside.scores[0].equal(alone.scores[0])


def _rounding_decides(scores: torch.Tensor, parameters: SamplingParameters) -> bool:
    finite = {id: score for id, score in enumerate(scores.tolist()) if score > -math.inf}
    try:
        Definition(finite).kept(parameters)
    except RoundingDecidesError:
        return True
    return False
