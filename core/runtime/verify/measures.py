"""How far tensors are from those of the reference, as plain numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import torch

QUIET: Final = 0.02
"""A vector this much shorter than the median counts as so long, lest the rounding of next to nothing looks large."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a vector belongs."""

    slot: int
    tile: int | None
    """Counted over the row's pictures, for stages before the prompt."""
    position: int | None
    """In the row, or for a tile among its patches; None for a whole tile."""

    def __str__(self) -> str:
        if self.tile is None:
            return f"row in slot {self.slot}, position {self.position}"
        inside = "" if self.position is None else f", patch {self.position}"
        return f"row in slot {self.slot}, tile {self.tile}{inside}"


@dataclass(frozen=True, slots=True)
class Flip:
    """A place where the likeliest token is another."""

    place: Place
    wanted: int
    got: int
    margin: float
    """By how much the oracle's scores prefer its own."""


@dataclass(slots=True)
class Measure:
    """What a stage of a case differs by; grows with every batch."""

    places: list[Place] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    """Of each vector: root mean square of the difference over that of the vector.

    Not over that of all: in trained models a few vectors are a thousand times as long as the others, and those of text
    or of a line's end are much shorter than those of pictures.
    """
    max: float = 0.0
    """Largest difference of a number, in the same measure."""
    most: float = 0.0
    """Largest difference of a number, as it is."""
    height: float = 0.0
    """Largest number of the reference."""
    mismatch: str = ""
    """What is wrong with the tensor's form, when it cannot be compared."""
    kl: list[float] = field(default_factory=list)
    """Of scores: KL divergence of what was got from what was wanted, nats."""
    flips: list[Flip] = field(default_factory=list)

    @property
    def rms(self) -> float:
        """Root mean square of the errors."""
        if self.mismatch:
            return math.inf
        return math.sqrt(sum(error**2 for error in self.errors) / len(self.errors)) if self.errors else 0.0

    @property
    def worst(self) -> float:
        """Error of the worst vector."""
        return math.inf if self.mismatch else max(self.errors, default=0.0)

    def add(self, got: torch.Tensor, wanted: torch.Tensor, places: Sequence[Place]) -> None:
        """Compare tensors whose leading dimensions run over places."""
        if got.shape != wanted.shape:
            self.mismatch = f"has shape {list(got.shape)}, not {list(wanted.shape)}"
            return
        if not wanted.numel():
            return
        got, wanted = (tensor.double().reshape(len(places), -1) for tensor in (got, wanted))
        difference = torch.nan_to_num((got - wanted).abs(), nan=math.inf, posinf=math.inf)
        size = wanted.square().mean(1).sqrt()
        size = torch.maximum(size, QUIET * size.median()).clamp(min=torch.finfo(torch.float32).tiny)
        self.places += places
        self.errors += (difference.square().mean(1).sqrt() / size).tolist()
        self.max = max(self.max, float((difference.amax(1) / size).max()))
        self.most = max(self.most, float(difference.max()))
        self.height = max(self.height, float(wanted.abs().max()))

    def add_scores(self, got: torch.Tensor, wanted: torch.Tensor, places: Sequence[Place]) -> None:
        """Compare scores, [places, vocabulary], as vectors and as what they say."""
        self.add(got, wanted, places)
        got, wanted = got.double(), wanted.double()
        sure, unsure = (scores.log_softmax(-1) for scores in (wanted, got))
        kl = (sure.exp() * (sure - unsure)).sum(-1)
        self.kl += torch.nan_to_num(kl, nan=math.inf).clamp(min=0).tolist()
        for row, (mine, other) in enumerate(zip(wanted.argmax(-1).tolist(), got.argmax(-1).tolist(), strict=True)):
            if mine != other:
                margin = float(wanted[row, mine] - wanted[row, other])
                self.flips.append(Flip(places[row], mine, other, margin))
