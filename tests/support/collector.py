"""A collector of OpenTelemetry on loopback, which remembers the spans that come."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc


@dataclass(frozen=True)
class Collected:
    """One span, and who sent it."""

    service: str
    process: str
    """`runtime.gateway` or `runtime.worker`."""
    name: str
    trace: str
    """Id of the trace, in hexadecimal."""
    id: str
    parent: str
    """Empty for the first of a trace."""
    start: int
    """Nanoseconds since 1970."""
    end: int
    attributes: Mapping[str, Any]


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """OTLP's service."""

    address: str

    def __init__(self) -> None:
        self.spans: list[Collected] = []

    def Export(self, request: Any, _context: Any) -> Any:
        for group in request.resource_spans:
            service = _values(group.resource.attributes)["service.name"]
            for scope in group.scope_spans:
                self.spans += [_collected(service, scope.scope.name, span) for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()

    def named(self, process: str, name: str) -> list[Collected]:
        """The spans of a process that have this name, in the order of their beginnings."""
        found = [span for span in self.spans if (span.process, span.name) == (f"runtime.{process}", name)]
        return sorted(found, key=lambda span: span.start)

    def below(self, parent: Collected) -> list[Collected]:
        """The spans right below one, in the order of their beginnings."""
        found = [span for span in self.spans if (span.trace, span.parent) == (parent.trace, parent.id)]
        return sorted(found, key=lambda span: span.start)


def _collected(service: str, process: str, span: Any) -> Collected:
    return Collected(
        service=service,
        process=process,
        name=span.name,
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        start=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
        attributes=_values(span.attributes),
    )


def _values(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector that listens at its `address`, HOST:PORT."""
    collector, server = Collector(), grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]
    collector.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield collector
    finally:
        server.stop(grace=None).wait()
