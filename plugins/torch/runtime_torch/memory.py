"""Memory of the C library's allocator, which every step takes and gives back."""

from __future__ import annotations

import ctypes
from typing import Final

M_TRIM_THRESHOLD: Final = -1
M_MMAP_THRESHOLD: Final = -3
"""Parameters of mallopt(3)."""
MOST: Final = 2**30
"""Bytes; what is smaller is kept for the next step."""


def keep_freed_memory() -> None:
    """Let the process keep what a step gave back, because asking the kernel anew costs a page fault for every 4 KiB.

    Does nothing where the C library is not glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, MOST)
        mallopt(M_TRIM_THRESHOLD, MOST)
