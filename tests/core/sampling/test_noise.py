"""Noise is a function of (seed, step) alone."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from runtime.sampling.noise import uniform

MASK = 2**64 - 1


def mixed(state: int) -> int:
    """SplitMix64's finaliser in unbounded integers: an independent oracle of the wrapping arithmetic."""
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
    return state ^ (state >> 31)


def expected(seed: int, step: int) -> float:
    return (mixed((mixed(seed) + (step + 1) * 0x9E3779B97F4A7C15) & MASK) >> 41) / 2**23


def draw(seeds: list[int], steps: list[int]) -> list[float]:
    drawn: list[float] = uniform(np.array(seeds, np.uint64), np.array(steps, np.uint64)).tolist()
    return drawn


@given(st.lists(st.tuples(st.integers(0, MASK), st.integers(0, 10_000)), min_size=1, max_size=8))
def test_equals_integer_arithmetic(rows: list[tuple[int, int]]) -> None:
    """Every row, whatever its neighbours, is what SplitMix64 gives for its seed and step."""
    seeds, steps = [row[0] for row in rows], [row[1] for row in rows]
    assert draw(seeds, steps) == [expected(seed, step) for seed, step in rows]


def test_known_value_of_the_mixer() -> None:
    """The first output of SplitMix64 for seed 0 is 0xe220a8397b1dcdaf (published test vector)."""
    assert mixed(0x9E3779B97F4A7C15) == 0xE220A8397B1DCDAF


def test_is_uniform_over_steps_and_over_seeds() -> None:
    """Each tenth of the range gets a tenth of 20,000 draws, within 4 standard deviations."""
    count = 20_000
    for seeds, steps in (([7] * count, list(range(count))), (list(range(count)), [0] * count)):
        drawn = torch.tensor(draw(seeds, steps))
        assert drawn.min() >= 0
        assert drawn.max() < 1
        tenths = torch.histc(drawn, bins=10, min=0, max=1)
        assert (tenths - count / 10).abs().max() < 4 * (count * 0.1 * 0.9) ** 0.5
