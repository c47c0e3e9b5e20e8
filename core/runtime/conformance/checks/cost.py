"""What serving takes, beside time."""

from __future__ import annotations

import ctypes
import gc
import math
import os
import time
from pathlib import Path
from statistics import median
from typing import Final

from runtime.conformance.bench import Bench
from runtime.conformance.check import Failed, NotApplicable, check
from runtime.conformance.driver import Driver, Part
from runtime.conformance.prompts import text

STATS_SECONDS: Final = 0.01
"""For one call: it is made after each prefill."""
CALLS: Final = 20
GROWTH: Final = 8 * 2**20
"""Bytes that the process may grow over all requests: of 500, 16 KiB each; the demo model takes 3 KiB a token."""
KINDS: Final = 16
"""Of requests, which come again and again."""
SETTLING: Final = 2 * KINDS
"""Requests before those that are looked at: caches fill."""
STATUS: Final = Path("/proc/self/statm")


@check(
    "stats",
    "The counters are finite numbers, and reading them is cheap.",
    "A counter that waits for the device, or asks its driver for the memory at every call.",
)
def stats_are_cheap(bench: Bench) -> str:
    hooks = bench.backend.hooks
    began = time.perf_counter()
    for _ in range(CALLS):
        stats = hooks.stats()
    seconds = (time.perf_counter() - began) / CALLS
    if not stats:
        raise NotApplicable("it tells none")
    odd = [name for name, value in stats.items() if not math.isfinite(value)]
    if odd:
        raise Failed(f"{odd[0]} is {stats[odd[0]]}")
    if seconds > STATS_SECONDS:
        raise Failed(f"one call takes {seconds * 1000:.0f} ms, and {STATS_SECONDS * 1000:.0f} ms are allowed")
    return f"{len(stats)} counters"


@check(
    "memory",
    "Memory is flat over many requests that come and go.",
    "Prefixes, pictures or requests that are kept in a list and never dropped.",
)
def memory_is_flat(bench: Bench) -> str:
    if not STATUS.exists():
        raise NotApplicable("this system does not tell the memory of a process")
    _give_back()
    driver, used = bench.driver(), []
    for request in range(SETTLING):
        _serve(bench, driver, request)
    before = driver.hooks.stats()
    for request in range(bench.requests):
        _serve(bench, driver, request)
        used.append(_resident_bytes())
    quarter = max(1, len(used) // 4)
    grown = median(used[-quarter:]) - median(used[:quarter])
    if grown > GROWTH:
        raise Failed(f"{bench.requests} requests grow it by {grown / 2**20:.1f} MiB; {GROWTH / 2**20:.0f} are allowed")
    for name, value in driver.hooks.stats().items():
        if name.endswith("_bytes") and value > before.get(name, value):
            raise Failed(f"the counter {name} grew from {before[name]:g} to {value:g}")
    return f"{grown / 2**20:+.1f} MiB in {bench.requests} requests"


def _serve(bench: Bench, driver: Driver, request: int) -> None:
    """Compute a prompt, every fourth with a picture, and one token after it."""
    slot, kind = request % bench.backend.limits.rows, request % KINDS
    shown = bench.oracle.cast["one picture"].prompt
    prompt = shown if kind % 4 == 0 else text("text", 5 + 37 * kind % 140, seed=kind)
    driver.prefill({slot: Part.whole(prompt)})
    driver.decode({slot: prompt.tokens[-1]})
    driver.release([slot])


def _give_back() -> None:
    """Return freed memory to the system, where the C library can: reused, it would hide what is kept."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _resident_bytes() -> int:
    return int(STATUS.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
