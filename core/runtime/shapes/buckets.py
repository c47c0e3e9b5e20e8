"""Sizes that numbers are rounded up to, and the rules that make them. Pure."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Protocol

from runtime.errors import StartupError

MAX_BUCKETS: Final = 4096
"""Of one dimension; a rule that makes more is a mistake, and would take long to count."""


@dataclass(frozen=True, slots=True)
class Buckets:
    """Ascending sizes. A number from 1 to the last belongs to the smallest size that is not below it."""

    sizes: tuple[int, ...]

    def holding(self, number: int) -> int | None:
        """Return the size a number is rounded up to; None beyond the last."""
        place = bisect_left(self.sizes, number)
        return self.sizes[place] if place < len(self.sizes) else None

    def steps(self) -> Iterator[tuple[int, int]]:
        """Yield (size before, 0 at first; size): the numbers rounded up to a size are those above the one before."""
        return itertools.pairwise((0, *self.sizes))


class Ladder(Protocol):
    """A rule that makes sizes."""

    def below(self, limit: int) -> Iterable[int]:
        """Return the sizes below a limit, ascending, all positive; may be far too many to keep."""
        ...


@dataclass(frozen=True, slots=True)
class Linear:
    """Every multiple."""

    step: int

    def below(self, limit: int) -> Iterable[int]:
        return range(self.step, limit, self.step)


@dataclass(frozen=True, slots=True)
class Exponential:
    """Multiples of `step`, each the least that is at least `growth` times the one before.

    So n is rounded up by less than (growth - 1) x n + step.
    """

    step: int
    growth: Fraction

    def below(self, limit: int) -> Iterable[int]:
        size = self.step
        while size < limit:
            yield size
            size = max(size + self.step, math.ceil(size * self.growth / self.step) * self.step)


@dataclass(frozen=True, slots=True)
class Doubling:
    """`step`, doubled again and again, of which the `most` largest are kept.

    So n is rounded up to less than 2 x n, unless it is below the first size.
    """

    step: int
    most: int

    def below(self, limit: int) -> Iterable[int]:
        doublings = max(0, ((limit - 1) // self.step).bit_length())
        return [self.step << power for power in range(max(0, doublings - self.most), doublings)]


@dataclass(frozen=True, slots=True)
class Listed:
    """Sizes somebody chose, ascending."""

    sizes: tuple[int, ...]

    def below(self, limit: int) -> Iterable[int]:
        return itertools.takewhile(lambda size: size < limit, self.sizes)


def up_to(ladder: Ladder, limit: int) -> Buckets:
    """Return the sizes below the limit, and the limit as the last even when the rule would not make it.

    None at all for a limit below 1. Raises StartupError for too many.
    """
    return _bounded(ladder.below(limit), limit) if limit > 0 else Buckets(())


def short_of(ladder: Ladder, limit: int) -> Buckets:
    """Return buckets as `up_to` does, but for numbers that stay below the limit, so that one is left for the last."""
    return _bounded(ladder.below(limit - 1), limit) if limit > 1 else Buckets(())


def _bounded(sizes: Iterable[int], last: int) -> Buckets:
    kept = tuple(itertools.islice(sizes, MAX_BUCKETS))
    if len(kept) == MAX_BUCKETS:
        raise StartupError(
            f"the buckets up to {last} are more than {MAX_BUCKETS}; raise --pad-sequence-to-multiple-of, "
            "--prefill-batch-bucket-size or --batch-bucket-size"
        )
    return Buckets((*kept, last))
