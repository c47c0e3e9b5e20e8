"""How the token of a row is chosen."""

from __future__ import annotations

from enum import Enum, auto

from runtime.runtime import SamplingParameters


class Way(Enum):
    """Rows share a way when they need the same passes over the vocabulary, so that none pays for its neighbour's."""

    BEST = auto()
    FROM_ALL = auto()
    TOP_K = auto()
    """Other filters may follow, on the k best."""
    TOP_P = auto()
    """Typical-p may follow."""
    TYPICAL = auto()

    @classmethod
    def of(cls, sampling: SamplingParameters, vocabulary: int) -> Way:
        """Return the cheapest way that does what the parameters ask for."""
        if not sampling.draws:
            return cls.BEST
        if 0 < sampling.top_k < vocabulary:
            return cls.TOP_K
        if sampling.top_p < 1:
            return cls.TOP_P
        return cls.TYPICAL if sampling.typical_p < 1 else cls.FROM_ALL

    @property
    def narrows(self) -> bool:
        """Whether candidates are dropped before the draw."""
        return self not in (Way.BEST, Way.FROM_ALL)
