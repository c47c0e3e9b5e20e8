"""Metrics as Prometheus reads them."""

from __future__ import annotations

from runtime.telemetry.registry import Registry


def test_series_are_there_before_anything_happens() -> None:
    """A rate needs a zero to start from."""
    registry = Registry()
    registry.counter("tgi_failures", "Told.", err=("a", "b"))
    assert b'tgi_failures{err="a"} 0.0\ntgi_failures{err="b"} 0.0\n' in registry.exposition()


def test_counters_of_tgi_have_no_suffix() -> None:
    """TGI's never had one; ours follow Prometheus' custom."""
    registry = Registry()
    registry.counter("tgi_things", "Told.").inc()
    registry.counter("runtime_things", "Told.").inc()
    lines = registry.exposition().decode().splitlines()
    assert {"# TYPE tgi_things counter", "tgi_things 1.0", "runtime_things_total 1.0"} <= set(lines)
    assert "tgi_things_total" not in "".join(lines)


def test_labels_that_nobody_knows_beforehand() -> None:
    """Their series are there once they are set."""
    registry = Registry()
    counts = registry.gauges("runtime_counts", "Told.", "name")
    assert b"runtime_counts{" not in registry.exposition()
    counts.labels("a").set(3)
    assert b'runtime_counts{name="a"} 3.0\n' in registry.exposition()


def test_durations_have_the_buckets_of_tgi() -> None:
    """35 of them, from 0.15 ms in steps of one half more, to 145.6 s."""
    registry = Registry()
    registry.duration("tgi_duration", "Told.").observe(0.0002)
    bounds = [line for line in registry.exposition().decode().splitlines() if line.startswith("tgi_duration_bucket")]
    assert bounds[0] == 'tgi_duration_bucket{le="0.00015"} 0.0'
    assert bounds[1] == 'tgi_duration_bucket{le="0.000225"} 1.0'
    assert bounds[34].startswith('tgi_duration_bucket{le="145.6')
    assert len(bounds) == 36
