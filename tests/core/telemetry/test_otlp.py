"""Sending spans, to collectors that do not take them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from runtime.telemetry import otlp
from runtime.telemetry.otlp import LossTeller, Traces


class Refusing(SpanExporter):
    """Takes nothing, in turn with a result and with an exception."""

    def __init__(self) -> None:
        self.calls = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.calls += 1
        if self.calls % 2:
            return SpanExportResult.FAILURE
        raise ValueError("a channel is closed")

    def shutdown(self) -> None: ...


class Hanging(SpanExporter):
    """Holds every batch until it is shut down."""

    def __init__(self) -> None:
        self.asked, self.ended = threading.Event(), threading.Event()
        self.count = 0
        """Spans that came."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.count += len(spans)
        self.asked.set()
        assert self.ended.wait(20)
        return SpanExportResult.FAILURE

    def shutdown(self) -> None:
        self.ended.set()


def spans(count: int) -> Sequence[ReadableSpan]:
    """Finished spans."""
    kept = InMemorySpanExporter()
    traces = Traces(kept, "service", "worker")
    for _ in range(count):
        with traces.call("a/b", ()):
            pass
    traces.close()
    return kept.get_finished_spans()


def test_losses_are_told_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    """At once, then at most one line a minute, with all that were lost since."""
    now = [1000.0]
    exporter = LossTeller(Refusing(), "collector:4317", lambda: now[0])
    lost = spans(3)
    for seconds in (0, 1, 58.9, 0.1, 59.9, 0.1):
        now[0] += seconds
        assert exporter.export(lost) is SpanExportResult.FAILURE
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert told == [f"spans lost: {count}; the collector at collector:4317 does not take them" for count in (3, 9, 6)]


def test_what_is_taken_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    """The other exporter's result stands."""
    kept = InMemorySpanExporter()
    assert LossTeller(kept, "collector:4317").export(spans(2)) is SpanExportResult.SUCCESS
    assert len(kept.get_finished_spans()) == 2
    assert not caplog.records


def test_hanging_collector_does_not_hold_up_the_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The attempt at work is ended, and the line says that the spans are lost."""
    monkeypatch.setattr(otlp, "FLUSH_SECONDS", 0.01)
    exporter = Hanging()
    traces = Traces(LossTeller(exporter, "collector:4317"), "service", "worker")
    with traces.call("a/b", ()):
        pass
    traces.close()
    assert exporter.asked.is_set()
    assert caplog.messages == ["spans lost: 1; the collector at collector:4317 does not take them"]


def test_more_spans_than_the_queue_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Making them goes on, and the oldest are lost."""
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "4")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1")
    monkeypatch.setattr(otlp, "FLUSH_SECONDS", 0.01)
    exporter = Hanging()
    traces = Traces(exporter, "service", "worker")
    with traces.call("a/b", ()):
        pass
    assert exporter.asked.wait(20)
    for _ in range(100):
        with traces.call("a/b", ()):
            pass
    traces.close()
    assert exporter.count == 1 + 4


def test_long_values_are_cut() -> None:
    """To 256 characters."""
    kept = InMemorySpanExporter()
    traces = Traces(kept, "service", "gateway")
    scope = {"method": "GET", "scheme": "http", "path": "/" + "a" * 999, "http_version": "1.1", "headers": []}
    with traces.request(scope):
        pass
    traces.close()
    (span,) = kept.get_finished_spans()
    assert span.attributes is not None
    assert span.attributes["url.path"] == "/" + "a" * 255
