"""How fast a server computes and how long its replies are, learned from what it has done.

Pure: no clock, no thread of its own; one thread tells, any may ask.
"""

from __future__ import annotations

import math
from typing import Final

PREFILLS: Final = 10
"""Prefills that a mean is mostly of; prompts differ, so that these are few."""
DECODES: Final = 50
REPLIES: Final = 50
SMALL: Final = 1e-9
"""Ends to expect in a reply, below which there is none."""


class Pace:
    """Exponentially weighted means; None, or nothing, until something was measured."""

    def __init__(self) -> None:
        self._prefill = _Ratio(PREFILLS)
        self._decode = _Ratio(DECODES)
        self._ends = _Ratio(REPLIES)
        self._prompts = _Ratio(REPLIES)
        self._replies = _Ratio(REPLIES)

    @property
    def prefill_token_seconds(self) -> float | None:
        """What one token of a prompt takes, while all other rows stand still."""
        return self._prefill.value

    @property
    def decode_step_seconds(self) -> float | None:
        """What one more token of every running row takes."""
        return self._decode.value

    @property
    def usual_tokens(self) -> tuple[float, float]:
        """Of a prompt and of its reply; 0 when none is known."""
        return self._prompts.value or 0.0, self._replies.value or 0.0

    def prefilled(self, tokens: int, seconds: float) -> None:
        """Learn from a prefill of so many tokens of prompts."""
        self._prefill.add(seconds, tokens)

    def decoded(self, seconds: float) -> None:
        """Learn from a decode step."""
        self._decode.add(seconds, 1)

    def ended(self, prompt_tokens: int, reply_tokens: int, by_itself: bool) -> None:
        """Learn from a whole reply; one that did not end `by_itself` had as many tokens as were asked for."""
        self._prompts.add(prompt_tokens, 1)
        self._replies.add(reply_tokens, 1)
        self._ends.add(float(by_itself), reply_tokens)

    def reply_tokens(self, longest: int) -> float:
        """Return how many tokens to expect of a reply, or of its rest, that may have `longest`.

        Replies are taken to be equally likely to end at each token. How likely, is then best estimated by ends per
        token, over all replies: also those that were cut off tell how many tokens had no end (the geometric
        distribution, censored on the right). Before any has ended by itself the answer is `longest`.
        """
        if longest <= 0:
            return 0.0
        chance = self._ends.value or 0.0
        if chance >= 1:
            return 1.0
        whole = chance * longest
        if whole < SMALL:
            return float(longest)
        return min(float(longest), -math.expm1(longest * math.log1p(-chance)) / chance)


class _Ratio:
    """One quantity per another; a sample weighs less, the more came after it."""

    def __init__(self, samples: int) -> None:
        """`samples` of the newest are most of the weight."""
        self._kept = 1 - 1 / samples
        self._sums = (0.0, 0.0)

    @property
    def value(self) -> float | None:
        amount, per = self._sums
        return amount / per if per > 0 else None

    def add(self, amount: float, per: float) -> None:
        self._sums = self._sums[0] * self._kept + amount, self._sums[1] * self._kept + per
