"""docs/monitoring.md tells of every metric there is, and of no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from runtime.telemetry.gateway import GatewayMetrics
from runtime.telemetry.metrics import Metrics
from support.scrape import read_scrape

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "monitoring.md").read_text()
ROW = re.compile(r"^\| `((?:tgi|runtime)_\w+)` \| (\w+) \| (?:`(\w+)`(?:: ((?:`\w+`(?:, )?)+))?)?\s*\|", re.MULTILINE)
TOLD = {name: (kind, label, set(re.findall(r"\w+", values))) for name, kind, label, values in ROW.findall(PAGE)}
SCRAPE = read_scrape(Metrics(48, 64, 4).exposition() + GatewayMetrics().exposition())


def test_every_metric_is_told() -> None:
    """By the name it has in a scrape."""
    assert TOLD.keys() == SCRAPE.keys()


@pytest.mark.parametrize("name", SCRAPE)
def test_type_and_labels_are_told(name: str) -> None:
    """With all values that a label can have, where they are known beforehand."""
    metric = SCRAPE[name]
    labels = {label: values for _, label, values in [TOLD[name]] if values}
    assert (metric.type, metric.labels) == (TOLD[name][0], labels)


def test_queries_ask_for_what_there_is() -> None:
    """The examples of the page name metrics."""
    asked = set(re.findall(r"\b(?:tgi|runtime)_\w+", PAGE))
    assert {re.sub("_(bucket|sum|count)$", "", name) for name in asked if name not in SCRAPE} <= SCRAPE.keys()
