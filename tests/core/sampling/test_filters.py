"""Dropping candidates that are in order; values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from runtime.sampling.filters import keep_mass, keep_top_k, keep_typical, strangeness

INF = math.inf


def test_top_k_keeps_ties_with_the_last() -> None:
    """Each row has its own k; what is kept is not rescaled."""
    scores = torch.tensor([[3.0, 2.0, 2.0, 1.0]]).expand(3, 4)
    kept = keep_top_k(scores, torch.tensor([1, 2, 4])).tolist()
    assert kept == [[3, -INF, -INF, -INF], [3, 2, 2, -INF], [3, 2, 2, 1]]


def test_mass_keeps_until_p_is_reached() -> None:
    """1/2 is less than 0.6, 3/4 is not; the first always stays, and 1 keeps what rounding would drop."""
    probabilities = torch.tensor([[1 / 2, 1 / 4, 1 / 4, 0.0]]).expand(4, 4)
    scores = probabilities.log()
    kept = keep_mass(scores, probabilities, torch.tensor([0.6, 0.75, 0.0, 1.0])).exp().tolist()
    assert kept == [[1 / 2, 1 / 4, 0, 0], [1 / 2, 1 / 4, 0, 0], [1 / 2, 0, 0, 0], [1 / 2, 1 / 4, 1 / 4, 0]]


def test_typical_may_drop_the_best() -> None:
    """Probabilities 1/2, 1/4, 1/8, 1/8 have an entropy of 1.75 bit; 2 bit is nearest to it, so 1/4 alone stays."""
    scores = torch.tensor([[1 / 2, 1 / 4, 1 / 8, 1 / 8]]).log().expand(3, 4)
    kept = keep_typical(scores, torch.tensor([0.2, 0.5, 1.0])).exp().tolist()
    assert kept == [[0, 1 / 4, 0, 0], [1 / 2, 1 / 4, 0, 0], [1 / 2, 1 / 4, 1 / 8, 1 / 8]]


def test_strangeness_is_the_distance_to_the_entropy() -> None:
    """In bits |1 - 1.75|, |2 - 1.75| and |3 - 1.75|; what is impossible is infinitely strange."""
    logprobs = torch.tensor([[1 / 2, 1 / 4, 1 / 8, 1 / 8, 0.0]]).log()
    bits = (strangeness(logprobs) / math.log(2)).tolist()[0]
    assert bits == pytest.approx([0.75, 0.25, 1.25, 1.25, INF])


def test_strangeness_does_not_depend_on_neighbours() -> None:
    """Of a large vocabulary, and on several threads, a row alone gets the same to the bit."""
    logprobs = torch.randn(4, 128_256, generator=torch.Generator().manual_seed(0)).log_softmax(dim=-1)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        together = strangeness(logprobs)
        assert all(strangeness(logprobs[row : row + 1])[0].equal(together[row]) for row in range(4))
    finally:
        torch.set_num_threads(threads)
