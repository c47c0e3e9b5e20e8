"""What free slots still hold, so that a prompt that begins alike need not be computed again from its start.

A slot that is given back keeps its keys and values until another row overwrites them. A later prompt with the same
beginning may lease the same slot and compute only the rest. Compared are symbols, not tokens: a placeholder counts as
the picture it stands for, so two pictures never pass for each other.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

LEAST: Final = 32
"""Tokens of a common beginning that are worth a prefill of another shape."""

Symbols = tuple[int, ...]
"""One number per token a slot holds: the token's id, or for a placeholder a negative number of its picture alone."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The slot for a row, and how much of its prompt the slot holds already."""

    slot: int
    offset: int


class Prefixes:
    """What each free slot holds; used on the device thread only."""

    def __init__(self, enabled: bool) -> None:
        """When not `enabled`, nothing is remembered and the lowest free slot is chosen."""
        self._enabled = enabled
        self._held: OrderedDict[int, Symbols] = OrderedDict()
        """By slot, the one given back first in front."""

    def keep(self, slot: int, symbols: Symbols) -> None:
        """Remember what a slot holds that is being given back."""
        if self._enabled:
            self._held[slot] = symbols

    def forget(self, slot: int) -> None:
        """Never use what a slot holds, because nobody knows what that is."""
        self._held.pop(slot, None)

    def choose(self, symbols: Symbols, free: Sequence[int], whole: bool = False) -> Choice:
        """Return the slot for a prompt: the one that holds most of its beginning, else an empty one, else the oldest.

        Of several that hold as much it is the oldest, the one given back first. `free` holds at least one slot, in
        ascending order. The last token is never counted as held, because its logits are wanted; with `whole` nothing
        is. What the chosen slot held is forgotten.
        """
        among = set() if whole else set(free)
        matches = [(_common(held, symbols), slot) for slot, held in self._held.items() if slot in among]
        longest, slot = max(matches, default=(0, -1), key=lambda match: match[0])
        longest = _before_picture(symbols, longest)
        if longest < LEAST:
            longest, slot = 0, self._cheapest(free)
        self._held.pop(slot, None)
        return Choice(slot, longest)

    def _cheapest(self, free: Sequence[int]) -> int:
        for slot in free:
            if slot not in self._held:
                return slot
        among = set(free)
        return next(slot for slot in self._held if slot in among)


def _before_picture(symbols: Symbols, offset: int) -> int:
    """Move an offset within a picture to its start: a picture is computed as a whole."""
    while offset > 0 and symbols[offset] < 0 and symbols[offset - 1] == symbols[offset]:
        offset -= 1
    return offset


def _common(held: Symbols, wanted: Symbols) -> int:
    """Return how many symbols both begin with, less than all of `wanted`; by bisection, as tuples compare fast."""
    low, high = 0, min(len(held), len(wanted) - 1)
    while low < high:
        middle = (low + high + 1) // 2
        if held[low:middle] == wanted[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
