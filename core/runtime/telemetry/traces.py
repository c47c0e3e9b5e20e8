"""Whether traces are wanted, and the span of the request at work. Imports no opentelemetry, which is an extra."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, Literal, Protocol

from runtime.errors import RuntimeServiceError, StartupError

if TYPE_CHECKING:
    from runtime.telemetry.otlp import Traces

Process = Literal["gateway", "worker"]
Metadata = Sequence[tuple[str, str]]

ADDRESS: Final = re.compile(r"(?:(https?)://)?((?:[\w.-]+|\[[0-9a-fA-F:.]+\]):[0-9]{1,5})/?", re.ASCII)


class ServerSpan(Protocol):
    """The span of a request that this process serves."""

    @property
    def metadata(self) -> Metadata:
        """What makes a call of gRPC a part of the trace: `traceparent`, and `tracestate` when there is one."""
        ...

    def failed(self, error: RuntimeServiceError) -> None:
        """Record the error the request ends with."""
        ...


serving: Final[ContextVar[ServerSpan | None]] = ContextVar("serving", default=None)
"""The span of the request at work; None when traces are off, or for work of nobody's request."""


def outgoing() -> Metadata:
    """Return the gRPC metadata for a call on behalf of the request at work."""
    span = serving.get()
    return () if span is None else span.metadata


def failed(error: RuntimeServiceError) -> None:
    """Record an error on the span of the request at work."""
    span = serving.get()
    if span is not None:
        span.failed(error)


@contextmanager
def tracing(endpoint: str | None, service_name: str, process: Process) -> Iterator[Traces | None]:
    """Give what makes spans and sends them to a collector, which at the end gets the last; None without an endpoint.

    `endpoint` speaks OTLP over gRPC: http://HOST:PORT, https://HOST:PORT, or HOST:PORT without encryption.
    Raises StartupError when it is none of these, or opentelemetry is missing or refuses its own variables.
    """
    if endpoint is None:
        yield None
        return
    traces = _started(endpoint, service_name, process)
    try:
        yield traces
    finally:
        traces.close()


def _started(endpoint: str, service_name: str, process: Process) -> Traces:
    address = ADDRESS.fullmatch(endpoint)
    if address is None:
        raise StartupError(
            f"--otlp-endpoint {endpoint[:100]!r} is no address of a collector; write http://HOST:PORT, "
            "as in http://127.0.0.1:4317"
        )
    try:
        from runtime.telemetry.otlp import Traces
    except ImportError:
        raise StartupError("--otlp-endpoint needs packages of opentelemetry: pip install 'vlm-runtime[otlp]'") from None
    try:
        return Traces.to(address[2], address[1] == "https", service_name, process)
    except Exception as error:
        raise StartupError(
            "--otlp-endpoint: opentelemetry refuses its settings; check the environment variables that begin with OTEL_"
        ) from error
