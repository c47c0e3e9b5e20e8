"""The threads that compute: as many as there are cores, each on its own.

Teams of threads that wait for each other lose several times their speed when one of them is moved or must share its
core, so each is bound to one. Every other thread of the process stays free to run anywhere.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

import torch

WORK: Final = 2**16
"""Numbers that are surely shared out to all threads of the team."""


def settle_threads(count: int | None) -> int:
    """Give the calling thread a team of `count` threads, by default one per core, and bind each to a core.

    Returns the number. Call on the thread that will compute, before it does. Where threads cannot be bound (only Linux
    can) they are left free.
    """
    cores = _cores()
    count = len(cores) if count is None else count
    torch.set_num_threads(count)
    if count > len(cores) or not hasattr(os, "sched_setaffinity"):
        return count
    before = _threads()
    torch.ones(WORK).add_(1)  # the team is made by its first work
    os.sched_setaffinity(0, {cores[0]})
    for thread, core in zip(sorted(_threads() - before), cores[1:count], strict=False):
        with suppress(ProcessLookupError):  # it was no thread of the team, and has ended meanwhile
            os.sched_setaffinity(thread, {core})
    return count


def _cores() -> list[int]:
    """Return one logical processor of each core this process may use, or how many there are where that is all."""
    if not hasattr(os, "sched_getaffinity"):
        return list(range(os.cpu_count() or 1))
    first: dict[str, int] = {}
    for processor in sorted(os.sched_getaffinity(0)):
        first.setdefault(_siblings(processor), processor)
    return list(first.values())


def _siblings(processor: int) -> str:
    """Return what all logical processors of one core have in common."""
    try:
        return Path(f"/sys/devices/system/cpu/cpu{processor}/topology/thread_siblings_list").read_text()
    except OSError:
        return str(processor)


def _threads() -> set[int]:
    return {int(task.name) for task in Path("/proc/self/task").iterdir()}
