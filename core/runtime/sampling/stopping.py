"""When a reply ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from runtime.runtime import FinishReason, StoppingParameters


@dataclass(slots=True)
class StopRule:
    """The stopping state of one reply; fed each token, it tells when to stop.

    Order as in TGI: length, then end of sequence, then stop texts; the last allowed token ends for its length.
    """

    max_new_tokens: int
    eos_ids: frozenset[int]
    stop: Sequence[str]
    _generated: int = field(default=0, init=False)
    _tail: str = field(default="", init=False)

    @classmethod
    def of(cls, stopping: StoppingParameters, room: int, eos_ids: frozenset[int]) -> StopRule:
        """`room` is how many tokens the context still holds."""
        wanted = room if stopping.max_new_tokens is None else stopping.max_new_tokens
        return cls(wanted, frozenset() if stopping.ignore_eos else eos_ids, stopping.stop)

    def push(self, token: int, text: str) -> FinishReason | None:
        """Count a token that adds `text` to the reply; return why the reply ends with it, or None."""
        self._generated += 1
        if self._generated >= self.max_new_tokens:
            return FinishReason.LENGTH
        if token in self.eos_ids:
            return FinishReason.EOS_TOKEN
        return FinishReason.STOP_SEQUENCE if self._found(text) else None

    def ends(self, token: int, count: int) -> bool:
        """Tell whether a reply ends with its token number `count` whatever its text."""
        return count >= self.max_new_tokens or token in self.eos_ids

    def _found(self, text: str) -> bool:
        """Look for a stop text that ends in the new text; only as much of the old is kept as one could reach into."""
        if not self.stop or not text:
            return False
        window = self._tail + text
        longest = max(map(len, self.stop))
        self._tail = window[-(longest - 1) :] if longest > 1 else ""
        return any(stop in window for stop in self.stop)
