"""Drawing from probabilities, against adding them up one by one."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from runtime.sampling.blocks import BLOCK
from runtime.sampling.drawing import drawn

LARGEST = 1 - 2**-23
"""Of the noise."""


@given(st.integers(0, 1000), st.integers(1, 3 * BLOCK + 5), st.floats(0, LARGEST, width=32))
def test_inverts_the_cumulative_distribution(seed: int, width: int, noise: float) -> None:
    """The place drawn is the first whose sum exceeds its share of the total; no place of probability 0 is."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.rand(width, generator=generator) * (torch.rand(width, generator=generator) < 0.3)
    weights[seed % width] = 0.5
    (place,) = drawn(weights[None], torch.tensor([noise])).tolist()
    assert weights[place] > 0
    sums = list(itertools.accumulate(weights.tolist()))
    before = sums[place] - weights[place].item()
    assert before - 1e-5 * sums[-1] <= noise * sums[-1] <= sums[place] + 1e-5 * sums[-1]


@pytest.mark.parametrize("width", [5, BLOCK, BLOCK + 1, 4 * BLOCK])
@pytest.mark.parametrize("only", [0, 4, -1])
@pytest.mark.parametrize("noise", [0.0, 0.5, LARGEST])
def test_the_only_possible_place_is_drawn(width: int, only: int, noise: float) -> None:
    """Whatever the noise, wherever it stands."""
    probabilities = torch.zeros(1, width)
    probabilities[0, only] = 1.0
    assert drawn(probabilities, torch.tensor([noise])).tolist() == [only % width]


def test_every_place_gets_its_share() -> None:
    """Probabilities 1/8, 1/2, 0, 3/8 and evenly spread noise: exactly so many of 800 draws."""
    noise = torch.arange(800) / 800
    places = drawn(torch.tensor([[1 / 8, 1 / 2, 0, 3 / 8]]).expand(800, 4), noise)
    assert torch.bincount(places, minlength=4).tolist() == [100, 400, 0, 300]
