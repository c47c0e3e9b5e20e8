"""Who holds which row of the running decode batch, and how many tokens it is charged with."""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence


class SlotTable:
    """The free and the leased slots, 0 to `count` - 1, and the tokens they share.

    The one account of what is taken: whoever runs a row, scheduler or step operation, leases here.
    """

    def __init__(self, count: int, tokens: int) -> None:
        self.count = count
        self.tokens = tokens
        self._free = list(range(count))
        self._charges: dict[int, int] = {}
        self._free_tokens = tokens

    @property
    def free(self) -> Sequence[int]:
        """The slots nobody holds, ascending; to be read at once."""
        return self._free

    @property
    def free_count(self) -> int:
        """Slots nobody holds."""
        return len(self._free)

    @property
    def free_tokens(self) -> int:
        """Tokens nobody is charged with."""
        return self._free_tokens

    def lease(self, tokens: int, slot: int | None = None) -> int:
        """Take a free slot, by default the lowest, charged with `tokens`; the caller has made sure that there is room.

        ValueError for a slot that is not free, because two rows would then share one.
        """
        slot = self._free[0] if slot is None else slot
        self._free.remove(slot)
        self._charges[slot] = tokens
        self._free_tokens -= tokens
        return slot

    def release(self, slot: int) -> None:
        """Give a leased slot back; KeyError when nobody holds it, because two rows would then share one."""
        self._free_tokens += self._charges.pop(slot)
        insort(self._free, slot)
