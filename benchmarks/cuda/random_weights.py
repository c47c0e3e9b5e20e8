"""Weights that are made on the device: 15 GB need not be brought to the machine to time their geometry."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

import torch
from runtime.static.weights import CPU, Weights

SMALL: Final = 0.02
"""Deviation of biases, and of what is added to vectors."""


class RandomWeights(Weights):
    """Answers every tensor that is asked for: norms are ones, matrices keep the size of what they multiply."""

    made: ClassVar[int] = 0
    """Bytes that the last instance has made."""

    def __init__(self, folder: Path, dtype: torch.dtype, device: torch.device = CPU) -> None:  # noqa: ARG002
        self._dtype, self._device = dtype, device
        type(self).made = 0

    def has(self, name: str) -> bool:  # noqa: ARG002
        return True

    def tensor(self, name: str, *shape: int) -> torch.Tensor:
        type(self).made += math.prod(shape) * self._dtype.itemsize
        if "norm" in name and name.endswith("weight"):
            return torch.ones(shape, dtype=self._dtype, device=self._device)
        deviation = SMALL if len(shape) == 1 else math.prod(shape[1:]) ** -0.5
        return torch.empty(shape, dtype=self._dtype, device=self._device).normal_(0.0, deviation)

    def stacked(self, names: Sequence[str], rows: Sequence[int], *rest: int) -> torch.Tensor:
        return self.tensor(names[0], sum(rows), *rest)

    def unused(self) -> list[str]:
        return []

    def close(self) -> None:
        """Nothing is open."""

    def __exit__(self, *_: Any) -> None:
        """Nothing is open."""
