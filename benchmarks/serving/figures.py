"""What a client sees of replies, as figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Reply:
    """When the tokens of one reply came; seconds of one clock for all replies of a round."""

    asked: float
    times: tuple[float, ...]
    prompt_tokens: int

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Reply:
        """Read what `asdict` wrote, after JSON."""
        return cls(fields["asked"], tuple(fields["times"]), fields["prompt_tokens"])


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of a round; times in milliseconds."""

    first_token: float
    """Median time to the first token."""
    first_token_p95: float
    between_tokens: float
    """Median."""
    decode: float
    """Tokens per second of one request after its first; median."""
    aggregate: float
    """Tokens of all requests per second, from the first question to the last token."""

    @classmethod
    def of(cls, replies: Sequence[Reply]) -> Figures:
        """Return the figures of replies of at least two tokens that were asked for at once."""
        first = [reply.times[0] - reply.asked for reply in replies]
        gaps = [b - a for reply in replies for a, b in pairwise(reply.times)]
        speeds = [(len(reply.times) - 1) / (reply.times[-1] - reply.times[0]) for reply in replies]
        seconds = max(reply.times[-1] for reply in replies) - min(reply.asked for reply in replies)
        return cls(
            first_token=1e3 * median(first),
            first_token_p95=1e3 * percentile(first, 0.95),
            between_tokens=1e3 * median(gaps),
            decode=median(speeds),
            aggregate=sum(len(reply.times) for reply in replies) / seconds,
        )

    @classmethod
    def median_of(cls, rounds: Sequence[Figures]) -> Figures:
        """Return the median of each figure."""
        return cls(*(median(asdict(one)[field.name] for one in rounds) for field in fields(cls)))


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` of the values do not exceed, linear between two of them."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])
