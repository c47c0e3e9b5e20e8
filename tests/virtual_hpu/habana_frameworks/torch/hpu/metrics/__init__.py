"""Metrics of the bridge."""

from __future__ import annotations

from virtual_device.metrics import (
    MetricDumpFormat,
    MetricNotFound,
    metric_global,
    metric_localcontext,
    metrics_dump,
)

__all__ = ["MetricDumpFormat", "MetricNotFound", "metric_global", "metric_localcontext", "metrics_dump"]
