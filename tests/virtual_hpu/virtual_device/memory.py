"""The memory of the device: what tensors and graphs hold, and its end.

The names of the statistics are the vendor's (hpu/memory.py). Only graphs and tensors are counted: workspace and
fragmentation are not emulated.
"""

from __future__ import annotations

import os
import threading
from typing import Final

from virtual_device.counters import NOW

LIMIT: Final = int(os.environ.get("VIRTUAL_HPU_MEMORY", int(96 * 2**30 * 0.985)))
"""Bytes of the device; by default those of a Gaudi 2."""
GRAPH_BYTES: Final = int(os.environ.get("VIRTUAL_HPU_GRAPH_BYTES", 2**20))
"""Invented: what a captured graph takes beside its tensors."""


class OutOfMemory(RuntimeError):
    """As the vendor's allocator ends (backend/synapse_helpers/device_memory.cpp); there a plain RuntimeError too."""

    def __init__(self, size: int) -> None:
        super().__init__(
            f"[Rank:0] FATAL ERROR :: MODULE:PT_DEVMEM Allocation failed for size::{size} ({size / 2**20})MB"
        )


class Memory:
    """Bookkeeping of bytes. Any thread: the collector may end an allocation anywhere, even inside another."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.allocations = self.frees = self.largest = self.active = 0

    def require(self, size: int) -> None:
        """Raise OutOfMemory unless this many bytes are free."""
        if NOW.live_bytes + NOW.graph_bytes + size > LIMIT:
            raise OutOfMemory(size)

    def take(self, size: int, graph: bool = False) -> None:
        """Take bytes for a tensor or for a graph."""
        with self._lock:
            self.require(size)
            NOW.graph_bytes += size * graph
            NOW.live_bytes += size * (not graph)
            NOW.peak_bytes = max(NOW.peak_bytes, NOW.live_bytes + NOW.graph_bytes)
            self.allocations += 1
            self.active += 1
            self.largest = max(self.largest, size)

    def give(self, size: int, graph: bool = False) -> None:
        """Give them back."""
        with self._lock:
            NOW.graph_bytes -= size * graph
            NOW.live_bytes -= size * (not graph)
            self.frees += 1
            self.active -= 1

    def statistics(self) -> dict[str, int]:
        """What torch.hpu.memory_stats answers."""
        return {
            "Limit": LIMIT,
            "InUse": NOW.live_bytes + NOW.graph_bytes,
            "MaxInUse": NOW.peak_bytes,
            "NumAllocs": self.allocations,
            "NumFrees": self.frees,
            "ActiveAllocs": self.active,
            "MaxAllocSize": self.largest,
            "TotalSystemAllocs": self.allocations,
            "TotalSystemFrees": self.frees,
            "TotalActiveAllocs": self.active,
        }

    def forget_peak(self) -> None:
        """Let the peak start from what is in use."""
        with self._lock:
            NOW.peak_bytes = NOW.live_bytes + NOW.graph_bytes

    def forget_counts(self) -> None:
        """Let the numbers of allocations start from nothing."""
        with self._lock:
            self.allocations = self.frees = self.largest = 0


class Allocation:
    """Bytes held until the last tensor that lies in them is gone: a base and its views share one."""

    __slots__ = ("__weakref__", "_graph", "_size")

    def __init__(self, size: int, graph: bool = False) -> None:
        MEMORY.take(size, graph)
        self._size, self._graph = size, graph

    def __del__(self) -> None:
        if hasattr(self, "_size"):  # else it was never taken
            MEMORY.give(self._size, self._graph)


MEMORY: Final = Memory()
