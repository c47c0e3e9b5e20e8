"""Sending spans to a collector, by OTLP over gRPC. Imported only when traces are wanted: opentelemetry is an extra."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

import runtime as package
from runtime.telemetry.spans import CallSpan, HttpSpan
from runtime.telemetry.traces import Process

FLUSH_SECONDS: Final = 2.0
"""Time that the last spans have at the end of a process."""
TELL_SECONDS: Final = 60.0
"""Between two lines about lost spans."""
LONGEST_TEXT: Final = 256
"""Characters of an attribute's value."""

log = logging.getLogger(__name__)


class Traces:
    """Makes the spans of one process and sends them in batches, from a thread of its own."""

    def __init__(self, exporter: SpanExporter, service_name: str, process: Process) -> None:
        """`exporter` is closed with this; `process` tells whose spans they are, for both have one service name.

        The queue is bounded, to 2048 spans unless OTEL_BSP_MAX_QUEUE_SIZE says otherwise; of more the oldest are lost.
        """
        facts: Mapping[str, str | int] = {
            "service.name": service_name,
            "service.version": package.__version__,
            "process.pid": os.getpid(),
        }
        self._provider = TracerProvider(
            resource=Resource.create(facts),
            span_limits=SpanLimits(max_span_attribute_length=LONGEST_TEXT),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._exporter = exporter
        self._tracer = self._provider.get_tracer(f"runtime.{process}", package.__version__)
        self._computes = process == "worker"

    @classmethod
    def to(cls, address: str, encrypted: bool, service_name: str, process: Process) -> Traces:
        """Send to a collector at HOST:PORT; whether anybody listens there shows when there are spans.

        Raises what opentelemetry raises for wrong OTEL_* variables.
        """
        # It would write a line, or a traceback, for every attempt.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        scheme = "https" if encrypted else "http"
        exporter = OTLPSpanExporter(endpoint=f"{scheme}://{address}", insecure=not encrypted)
        return cls(LossTeller(exporter, address), service_name, process)

    def request(self, scope: Mapping[str, Any]) -> HttpSpan:
        """Begin the span of an HTTP request, to be entered; `scope` is ASGI's, which names the route by the end."""
        return HttpSpan(self._tracer, scope)

    def call(self, method: str, metadata: Iterable[tuple[str, str | bytes]]) -> CallSpan:
        """Begin the span of a call that came over gRPC with this metadata, to be entered."""
        return CallSpan(self._tracer, method, metadata, self._computes)

    def close(self) -> None:
        """Send what is left; blocks for FLUSH_SECONDS and a little at most."""
        # The batch processor by itself would wait half a minute for a collector that does not answer.
        flushing = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        flushing.start()
        flushing.join(FLUSH_SECONDS)
        if flushing.is_alive():
            self._exporter.shutdown()
            flushing.join(1.0)


class LossTeller(SpanExporter):
    """Hands spans to another exporter and tells of the lost, in one line now and then.

    Called on the thread of the batch processor, so a collector that does not answer holds up nobody.
    """

    def __init__(self, exporter: SpanExporter, address: str, clock: Callable[[], float] = time.monotonic) -> None:
        """`address` is for the line, `clock` is in seconds."""
        self._exporter = exporter
        self._address = address
        self._clock = clock
        self._lost = 0
        self._told = -math.inf

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch; blocks for the other exporter's timeout at most, which is 10 seconds by default."""
        try:
            result = self._exporter.export(spans)
        except Exception:
            log.debug("spans could not be sent", exc_info=True)
            result = SpanExportResult.FAILURE
        if result is not SpanExportResult.SUCCESS:
            self._lose(len(spans))
        return result

    def shutdown(self) -> None:
        """End the attempt at work and refuse more; from any thread."""
        self._exporter.shutdown()

    def _lose(self, count: int) -> None:
        self._lost += count
        if self._clock() - self._told >= TELL_SECONDS:
            log.warning("spans lost: %d; the collector at %s does not take them", self._lost, self._address)
            self._lost, self._told = 0, self._clock()
