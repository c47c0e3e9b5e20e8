"""Randomness as a pure function of (seed, step), so that a reply does not depend on neighbours, slots or restarts."""

from __future__ import annotations

from typing import Final

import torch

# SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014), in wrapping signed arithmetic.
_GAMMA: Final = 0x9E3779B97F4A7C15 - 2**64
_MIX_A: Final = 0xBF58476D1CE4E5B9 - 2**64
_MIX_B: Final = 0x94D049BB133111EB - 2**64
_BITS: Final = 23
"""Bits of a draw: with 23 the largest, 1 - 2**-23, times a float32 total stays below that total."""


def uniform(seeds: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
    """Draw one number per row, in [0, 1).

    `seeds` int64 [rows] (an unsigned 64-bit seed, wrapped) and `steps` int64 [rows], cpu; returns float32 [rows], cpu.
    """
    state = _mixed(seeds) + (steps + 1) * _GAMMA
    return _shifted(_mixed(state), 64 - _BITS).to(torch.float32) * 2.0**-_BITS


def wrapped(seed: int) -> int:
    """Return an unsigned 64-bit seed as the signed number a tensor can hold."""
    return seed - 2**64 if seed >= 2**63 else seed


def _mixed(state: torch.Tensor) -> torch.Tensor:
    state = (state ^ _shifted(state, 30)) * _MIX_A
    state = (state ^ _shifted(state, 27)) * _MIX_B
    return state ^ _shifted(state, 31)


def _shifted(state: torch.Tensor, bits: int) -> torch.Tensor:
    """Shift right without the sign, which int64's own shift would copy."""
    return (state >> bits) & ((1 << (64 - bits)) - 1)
