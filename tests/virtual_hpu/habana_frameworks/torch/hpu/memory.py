"""What the allocator holds; `Limit` is all it has, and graphs that are still to be captured are not in `InUse`."""

from __future__ import annotations

from typing import Any

from habana_frameworks.torch.hpu._utils import _get_device_index
from virtual_device.memory import MEMORY

__all__ = [
    "max_memory_allocated",
    "max_memory_reserved",
    "mem_get_info",
    "memory_allocated",
    "memory_reserved",
    "memory_stats",
    "memory_summary",
    "reset_accumulated_memory_stats",
    "reset_peak_memory_stats",
]


def memory_stats(device: Any = None) -> dict[str, Any]:
    _get_device_index(device, optional=True)
    return MEMORY.statistics()


def memory_allocated(device: Any = None) -> int:
    return int(memory_stats(device)["InUse"])


def max_memory_allocated(device: Any = None) -> int:
    return int(memory_stats(device)["MaxInUse"])


def memory_reserved(device: Any = None) -> int:
    return int(memory_stats(device)["Limit"])


def max_memory_reserved(device: Any = None) -> int:
    return int(memory_stats(device)["Limit"])


def mem_get_info(device: Any = None) -> tuple[int, int]:
    stats = memory_stats(device)
    return stats["Limit"] - stats["InUse"], stats["Limit"]


def reset_peak_memory_stats(device: Any = None) -> None:
    _get_device_index(device, optional=True)
    MEMORY.forget_peak()


def reset_accumulated_memory_stats(device: Any = None) -> None:
    _get_device_index(device, optional=True)
    MEMORY.forget_counts()


def memory_summary(device: Any = None) -> str:
    return "\n".join(f"{name}: {value}" for name, value in memory_stats(device).items())
