"""What the device did: counters that only grow, read as snapshots that can be subtracted."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

import torch

WAITS: Final = frozenset({"synchronize", "event.synchronize", "stream.synchronize"})
"""Kinds of `d2h_syncs` that wait and move no data."""

_HERE: Final = Path(__file__).parent
_NOT_CALLERS: Final = (torch.__path__[0], str(_HERE), str(_HERE.with_name("habana_frameworks")), "<frozen", "<string")


@dataclass(slots=True)
class Snapshot:
    """Counters at one moment, or what happened between two."""

    captures: Counter[str] = field(default_factory=Counter)
    """By module and inputs in clear: `Decoder(int32[2,1], 128)`."""
    replays: Counter[str] = field(default_factory=Counter)
    bypasses: Counter[str] = field(default_factory=Counter)
    """Calls of a wrapped module that ran without a graph."""
    compilations: int = 0
    recipe_hits: int = 0
    dynamo_graphs: int = 0
    cpu_fallbacks: Counter[str] = field(default_factory=Counter)
    """By operator."""
    d2h_syncs: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By kind and call site."""
    h2d_copies: Counter[str] = field(default_factory=Counter)
    """By call site."""
    h2d_bytes: int = 0
    mark_steps: Counter[str] = field(default_factory=Counter)
    stale_reads: Counter[str] = field(default_factory=Counter)
    kernels: Counter[str] = field(default_factory=Counter)
    """Runs of the fused kernels, in replays too: `attention(recompute=True, softmax=none, causal=True)`."""
    live_bytes: int = 0
    peak_bytes: int = 0
    """The only one that a difference keeps as it is."""
    graph_bytes: int = 0

    @property
    def host_reads(self) -> int:
        """How often data left the device."""
        return sum(count for (kind, _), count in self.d2h_syncs.items() if kind not in WAITS)

    def __sub__(self, before: Snapshot) -> Snapshot:
        """What happened since."""
        pairs = {item.name: getattr(self, item.name) - getattr(before, item.name) for item in fields(self)}
        return Snapshot(**{**pairs, "peak_bytes": self.peak_bytes})

    def totals(self) -> dict[str, int]:
        """Plain numbers by name, to be sent to another process."""
        values: dict[str, Any] = {item.name: getattr(self, item.name) for item in fields(self)}
        values = {name: value.total() if isinstance(value, Counter) else value for name, value in values.items()}
        return {**values, "host_reads": self.host_reads}


NOW: Final = Snapshot()
"""The running counters; only the device writes to them."""


def snapshot() -> Snapshot:
    """The counters as they are."""
    values: dict[str, Any] = {item.name: getattr(NOW, item.name) for item in fields(NOW)}
    values.update((name, value.copy()) for name, value in values.items() if isinstance(value, Counter))
    return Snapshot(**values)


def call_site() -> str:
    """File and line of the code that uses the device, outside torch and the emulation."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_NOT_CALLERS):
        frame = frame.f_back
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
