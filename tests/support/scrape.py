"""What a scrape of /metrics says."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

SAMPLE = re.compile(r"(\w+)(?:\{(.*)\})? (\S+)")
LABEL = re.compile(r'(\w+)="([^"]*)"')
PARTS = ("_bucket", "_count", "_sum")


@dataclass
class Metric:
    """One metric of a scrape; buckets are left out."""

    type: str
    labels: dict[str, set[str]] = field(default_factory=dict)
    """Values by label."""
    values: dict[str, float] = field(default_factory=dict)
    """By value of the label, "" without one; of a histogram or summary how often it was recorded."""
    bounds: list[float] = field(default_factory=list)
    """Of the buckets of the first series, the last without end."""


def read_scrape(exposition: bytes) -> dict[str, Metric]:
    """The metrics by their names."""
    metrics: dict[str, Metric] = {}
    for line in exposition.decode().splitlines():
        if line.startswith("# TYPE "):
            name, kind = line.split()[2:]
            metrics[name] = Metric(kind)
        elif not line.startswith("#"):
            match = SAMPLE.fullmatch(line)
            assert match is not None, line
            _add(metrics, match[1], dict(LABEL.findall(match[2] or "")), float(match[3]))
    return metrics


def _add(metrics: dict[str, Metric], sample: str, labels: dict[str, str], value: float) -> None:
    part = next((part for part in PARTS if sample not in metrics and sample.endswith(part)), "")
    metric = metrics[sample.removesuffix(part)]
    bound = labels.pop("le", None)
    for label, told in labels.items():
        metric.labels.setdefault(label, set()).add(told)
    if bound is not None:
        if float(bound) not in metric.bounds:
            metric.bounds.append(float(bound))
    elif part != "_sum":
        metric.values[",".join(labels.values())] = value
