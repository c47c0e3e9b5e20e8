"""Top-k and top-p against their definitions, row by row."""

from __future__ import annotations

import itertools
import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from runtime.sampling.filters import keep_top_k, keep_top_p, keep_typical

ROWS = st.lists(st.lists(st.integers(-40, 40), min_size=6, max_size=6), min_size=1, max_size=4)


def kept(scores: torch.Tensor) -> list[set[int]]:
    return [set(row.isfinite().nonzero().flatten().tolist()) for row in scores]


@given(ROWS, st.data())
def test_top_k_keeps_the_best_and_their_ties(rows: list[list[int]], data: st.DataObject) -> None:
    """An id stays when fewer than k ids are strictly better."""
    ks = [data.draw(st.integers(1, 6)) for _ in rows]
    result = keep_top_k(torch.tensor(rows, dtype=torch.float32) / 8, torch.tensor(ks), max(ks))
    for row, k, ids in zip(rows, ks, kept(result), strict=True):
        assert ids == {i for i, score in enumerate(row) if sum(other > score for other in row) < k}


@given(ROWS, st.data())
def test_top_p_keeps_the_smallest_sufficient_set(rows: list[list[int]], data: st.DataObject) -> None:
    """The best ids stay, in order, until their probability reaches p; ties go to the lower id; 1 keeps all."""
    ps = [data.draw(st.floats(0.01, 1.0)) for _ in rows]
    result = keep_top_p(torch.tensor(rows, dtype=torch.float32) / 8, torch.tensor(ps, dtype=torch.float32))
    for row, p, ids in zip(rows, ps, kept(result), strict=True):
        total = sum(math.exp(score / 8) for score in row)
        order = sorted(range(6), key=lambda i, row=row: (-row[i], i))
        masses = [sum(math.exp(row[i] / 8) for i in order[:n]) / total for n in range(6)]
        if any(abs(mass - p) < 1e-5 for mass in masses):
            continue  # rounding decides
        assert ids == {i for i, mass in zip(order, masses, strict=True) if p == 1 or mass < p or i == order[0]}


@given(ROWS, st.data())
def test_typical_keeps_the_most_typical(rows: list[list[int]], data: st.DataObject) -> None:
    """The ids nearest to the entropy stay, in order, until their probability reaches p; 1 keeps all."""
    ps = [data.draw(st.floats(0.01, 1.0)) for _ in rows]
    result = keep_typical(torch.tensor(rows, dtype=torch.float32) / 8, torch.tensor(ps, dtype=torch.float32))
    for row, p, ids in zip(rows, ps, kept(result), strict=True):
        total = sum(math.exp(score / 8) for score in row)
        probabilities = [math.exp(score / 8) / total for score in row]
        entropy = -sum(probability * math.log(probability) for probability in probabilities)
        distance = [abs(-math.log(probability) - entropy) for probability in probabilities]
        order = sorted(range(6), key=lambda i, distance=distance: distance[i])
        masses = [sum(probabilities[i] for i in order[:n]) for n in range(6)]
        gaps = [distance[b] - distance[a] for a, b in itertools.pairwise(order) if row[a] != row[b]]
        if any(abs(mass - p) < 1e-5 for mass in masses) or any(gap < 1e-5 for gap in gaps):
            continue  # rounding decides
        assert ids == {i for i, mass in zip(order, masses, strict=True) if p == 1 or mass < p or i == order[0]}


def test_typical_may_drop_the_best() -> None:
    """Probabilities 1/2, 1/4, 1/8, 1/8 have an entropy of 1.75 bit; 2 bit is nearest to it, so 1/4 alone stays."""
    scores = torch.tensor([[1 / 2, 1 / 4, 1 / 8, 1 / 8]]).log()
    assert kept(keep_typical(scores, torch.tensor([0.2]))) == [{1}]
    assert kept(keep_typical(scores, torch.tensor([0.5]))) == [{0, 1}]


def test_typical_ties_go_to_the_lower_id() -> None:
    """Equal candidates are equally typical; dropped ones do not come back."""
    scores = torch.tensor([[-math.inf, 0.0, 0.0, 0.0, 0.0]])
    assert kept(keep_typical(scores, torch.tensor([0.5]))) == [{1, 2}]


def test_kept_scores_are_unchanged() -> None:
    """Filtering drops; it does not rescale."""
    scores = torch.tensor([[3.0, 1.0, 2.0]])
    assert keep_top_k(scores, torch.tensor([2]), 2).tolist() == [[3.0, -math.inf, 2.0]]
    assert keep_top_p(scores, torch.tensor([0.5])).tolist() == [[3.0, -math.inf, -math.inf]]
