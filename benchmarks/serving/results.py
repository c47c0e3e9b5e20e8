"""Everything a run found out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from benchmarks.serving.bounds import Bound, Machine
from benchmarks.serving.figures import Figures
from benchmarks.serving.server import Memory

GIGA: Final = 10**9


@dataclass(frozen=True, slots=True)
class Results:
    """Medians of the rounds, by workload."""

    geometry: str
    backend: str
    threads: int
    rounds: int
    new_tokens: int
    versions: Mapping[str, str]
    load_average: float
    """Of the machine before the run, one minute: other work makes every figure worse."""
    machine: Machine
    read_by: str
    """What measured the memory: C, or PyTorch, which may see less than there is."""
    bounds: Mapping[str, Bound]
    served: Mapping[str, Figures]
    """Over HTTP, through both processes."""
    bare: Mapping[str, Figures]
    """By the engine alone, in a process of its own."""
    generate: Mapping[str, Figures]
    """By transformers."""
    second_question: float | None
    """Time to the first token of a second question about a picture, as a share of the first's."""
    ready_seconds: float
    memory_when_ready: Memory
    memory: Memory
    """After all workloads."""
