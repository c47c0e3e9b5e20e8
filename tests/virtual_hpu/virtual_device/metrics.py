"""The vendor's metrics, fed by the events of the device (vendor: hpu/metrics/metrics.py)."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, Final

from virtual_device.events import Topic, subscribe, unsubscribe


class MetricNotFound(Exception):  # the vendor's name
    """There is no metric of this name."""


class MetricDumpFormat(str, Enum):
    """How metrics are written to a file."""

    json = "json"
    text = "text"


class Metric:
    """A few numbers that follow the device from `start` to `stop`."""

    topics: ClassVar[tuple[Topic, ...]] = ()
    named: ClassVar[str]

    def __init__(self) -> None:
        self._listens = False
        self.reset()
        self.start()

    def name(self) -> str:
        """The name by which it is found."""
        return self.named

    def start(self) -> None:
        """Follow the device."""
        if not self._listens:
            for topic in self.topics:
                subscribe(topic, getattr(self, topic))
            self._listens = True

    def stop(self) -> None:
        """Follow it no longer."""
        if self._listens:
            for topic in self.topics:
                unsubscribe(topic, getattr(self, topic))
            self._listens = False

    def reset(self) -> None:
        """Start from nothing."""
        raise NotImplementedError

    def stats(self) -> list[tuple[str, Any]]:
        """The numbers with their names."""
        raise NotImplementedError


class GraphCompilation(Metric):
    """Recipes that were compiled; times in microseconds."""

    named = "graph_compilation"
    topics = ("graph_compilation",)

    def reset(self) -> None:
        self._recipes: list[tuple[str, int]] = []

    def graph_compilation(self, details: Mapping[str, str]) -> None:
        self._recipes.append((details["recipe"], int(details["duration"])))

    def stats(self) -> list[tuple[str, Any]]:
        number, total = len(self._recipes), sum(duration for _, duration in self._recipes)
        average = total / number if number else 0
        found: list[tuple[str, Any]] = [("TotalNumber", number), ("TotalTime", total), ("AvgTime", average)]
        return [*found, ("recipe", list(self._recipes))] if _is_set("PT_HPU_METRICS_GC_DETAILS") else found


class CpuFallback(Metric):
    """Operators that ran on the CPU because the device has no kernel for them."""

    named = "cpu_fallback"
    topics = ("cpu_fallback",)

    def reset(self) -> None:
        self._operators: Counter[str] = Counter()

    def cpu_fallback(self, details: Mapping[str, str]) -> None:
        self._operators[details["op_name"]] += 1

    def stats(self) -> list[tuple[str, Any]]:
        return [("TotalNumber", self._operators.total()), ("FallbackOps", dict(self._operators))]


class MemoryDefragmentation(Metric):
    """Always zero: fragmentation is not emulated."""

    named = "memory_defragmentation"

    def reset(self) -> None:
        """There is nothing to forget."""

    def stats(self) -> list[tuple[str, Any]]:
        return [("TotalNumber", 0), ("TotalSuccessful", 0), ("AvgTime", 0), ("MaxTime", 0)]


class RecipeCache(Metric):
    """Recipes that were found, and that were not."""

    named = "recipe_cache"
    topics = ("cache_hit", "cache_miss")

    def reset(self) -> None:
        self._hits: Counter[str] = Counter()
        self._misses: Counter[str] = Counter()

    def cache_hit(self, details: Mapping[str, str]) -> None:
        self._hits[details["recipe_id"]] += 1

    def cache_miss(self, details: Mapping[str, str]) -> None:
        self._misses[details["recipe_id"]] += 1

    def stats(self) -> list[tuple[str, Any]]:
        return [
            ("TotalHit", self._hits.total()),
            ("RecipeHit", dict(self._hits)),
            ("TotalMiss", self._misses.total()),
            ("RecipeMiss", dict(self._misses)),
        ]


def _is_set(variable: str) -> bool:
    return os.environ.get(variable, "").lower() in ("y", "yes", "t", "true", "on", "1")


_KINDS: Final[dict[str, type[Metric]]] = {
    kind.named: kind
    for kind in (GraphCompilation, CpuFallback, MemoryDefragmentation, RecipeCache)
    if kind is not RecipeCache or _is_set("PT_HPU_ENABLE_CACHE_METRICS")
}
_GLOBAL: Final = {name: kind() for name, kind in _KINDS.items()}


def metric_global(name: str) -> Metric | None:
    """The metric of the whole process; None if there is none of this name."""
    return _GLOBAL.get(name)


@contextmanager
def metric_localcontext(name: str) -> Iterator[Metric]:
    """A metric that follows the device within a `with`."""
    if name not in _KINDS:
        raise MetricNotFound(f"Metric with given name ({name}) doesn't exist.")
    metric = _KINDS[name]()
    try:
        yield metric
    finally:
        metric.stop()


def metrics_dump(file_name: str, format: MetricDumpFormat = MetricDumpFormat.json) -> None:
    """Write the metrics of the whole process to a file."""
    found = [{"metric_name": name, "statistics": dict(metric.stats())} for name, metric in _GLOBAL.items()]
    lines = "\n".join(map(str, found))
    Path(file_name).write_text(json.dumps(found) if format is MetricDumpFormat.json else lines)
