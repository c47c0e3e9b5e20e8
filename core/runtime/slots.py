"""Who holds which row of the running decode batch."""

from __future__ import annotations

import heapq


class SlotTable:
    """The free and the leased slots, 0 to `count` - 1; the lowest free slot is leased first."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._free = list(range(count))
        self._leased: set[int] = set()

    @property
    def free_count(self) -> int:
        """Slots nobody holds."""
        return len(self._free)

    def lease(self) -> int:
        """Take a free slot; the caller has made sure that there is one."""
        slot = heapq.heappop(self._free)
        self._leased.add(slot)
        return slot

    def release(self, slot: int) -> None:
        """Give a leased slot back; KeyError when nobody holds it, because two rows would then share one."""
        self._leased.remove(slot)
        heapq.heappush(self._free, slot)
