"""Randomness as a pure function of (seed, step), so that a reply does not depend on neighbours, slots or restarts."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

# SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014); uint64 arrays wrap around.
_GAMMA: Final = np.uint64(0x9E3779B97F4A7C15)
_MIX_A: Final = np.uint64(0xBF58476D1CE4E5B9)
_MIX_B: Final = np.uint64(0x94D049BB133111EB)
_BITS: Final = 23
"""Bits of a draw: with 23 the largest, 1 - 2**-23, times a float32 total stays below that total."""

Words = npt.NDArray[np.uint64]


def uniform(seeds: Words, steps: Words) -> npt.NDArray[np.float32]:
    """Draw one number in [0, 1) for each pair of seed and step; on the host, whose integers are exact."""
    state = _mixed(seeds) + (steps + np.uint64(1)) * _GAMMA
    return (_mixed(state) >> np.uint64(64 - _BITS)).astype(np.float32) * np.float32(2.0**-_BITS)


def _mixed(state: Words) -> Words:
    state = (state ^ (state >> np.uint64(30))) * _MIX_A
    state = (state ^ (state >> np.uint64(27))) * _MIX_B
    return state ^ (state >> np.uint64(31))
