"""Top-k and top-p against their definitions, row by row."""

from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from runtime.sampling.filters import keep_top_k, keep_top_p

ROWS = st.lists(st.lists(st.integers(-40, 40), min_size=6, max_size=6), min_size=1, max_size=4)


def kept(scores: torch.Tensor) -> list[set[int]]:
    return [set(row.isfinite().nonzero().flatten().tolist()) for row in scores]


@given(ROWS, st.data())
def test_top_k_keeps_the_best_and_their_ties(rows: list[list[int]], data: st.DataObject) -> None:
    """An id stays when fewer than k ids are strictly better; 0 keeps all."""
    ks = [data.draw(st.integers(0, 8)) for _ in rows]
    result = keep_top_k(torch.tensor(rows, dtype=torch.float32) / 8, torch.tensor(ks))
    for row, k, ids in zip(rows, ks, kept(result), strict=True):
        assert ids == {i for i, score in enumerate(row) if k == 0 or sum(other > score for other in row) < k}


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


def test_kept_scores_are_unchanged() -> None:
    """Filtering drops; it does not rescale."""
    scores = torch.tensor([[3.0, 1.0, 2.0]])
    assert keep_top_k(scores, torch.tensor([2])).tolist() == [[3.0, -math.inf, 2.0]]
    assert keep_top_p(scores, torch.tensor([0.5])).tolist() == [[3.0, -math.inf, -math.inf]]
