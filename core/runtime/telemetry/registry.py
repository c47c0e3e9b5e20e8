"""Making Prometheus metrics whose every series is there from the start, and telling them all."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Summary,
    disable_created_metrics,
    generate_latest,
)

disable_created_metrics()  # type: ignore[no-untyped-call]  # TGI has none

DURATIONS: Final = tuple(0.00015 * 1.5**step for step in range(35))
"""Bucket bounds of every duration, seconds; TGI's."""
_TGI_COUNTER: Final = re.compile(rb"\b(tgi_\w+?)_total\b(?=[ {])")

Labelled = TypeVar("Labelled", Counter, Histogram)


class Registry:
    """The metrics of one process. Labels come with all their values, so that a rate has a zero to start from."""

    def __init__(self) -> None:
        self._collectors = CollectorRegistry()

    def counter(self, name: str, meaning: str, **labels: Sequence[str]) -> Counter:
        """Make a counter with at most one label."""
        return _with_series(Counter(name, meaning, labels, registry=self._collectors), labels)

    def duration(self, name: str, meaning: str, **labels: Sequence[str]) -> Histogram:
        """Make a histogram of seconds with at most one label."""
        return _with_series(Histogram(name, meaning, labels, registry=self._collectors, buckets=DURATIONS), labels)

    def histogram(self, name: str, meaning: str, buckets: Sequence[float]) -> Histogram:
        """Make a histogram with these upper bounds."""
        return Histogram(name, meaning, registry=self._collectors, buckets=buckets)

    def summary(self, name: str, meaning: str) -> Summary:
        """Make a sum and a count."""
        return Summary(name, meaning, registry=self._collectors)

    def gauge(self, name: str, meaning: str) -> Gauge:
        """Make a value that goes up and down."""
        return Gauge(name, meaning, registry=self._collectors)

    def gauges(self, name: str, meaning: str, label: str) -> Gauge:
        """Make values that go up and down, one for each value of a label, which nobody knows beforehand."""
        return Gauge(name, meaning, [label], registry=self._collectors)

    def exposition(self) -> bytes:
        """Return all metrics in Prometheus' text format; TGI's counters without the `_total` they never had."""
        return _TGI_COUNTER.sub(rb"\1", generate_latest(self._collectors))


def _with_series(metric: Labelled, labels: dict[str, Sequence[str]]) -> Labelled:
    for values in labels.values():
        for value in values:
            metric.labels(value)
    return metric
