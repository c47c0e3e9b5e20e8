"""Two processes in one whose spans can be read: the HTTP application with its client, and the server behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

import httpx
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from runtime.rpc import convert
from runtime.runtime import Completion, Delta, FinishReason, Runtime, Timings
from runtime.telemetry.otlp import Traces
from runtime.v1 import generation_pb2
from support.rpc import Connection
from support.scripted import token
from support.serving import tokens_request

TIMINGS = Timings(validation=0.5, queue=0.25, inference=1.5, total=2.25)
COMPLETION = Completion("one two", FinishReason.EOS_TOKEN, 2, 5, seed=2**64 - 1, timings=TIMINGS)
FIRST, LAST = Delta((token("one"),)), Delta((token(" two"),), COMPLETION)
BODY = {"inputs": "a secret", "parameters": {"max_new_tokens": 2}}


class Process:
    """The traces of one process, which keeps its spans to itself."""

    def __init__(self, process: Any) -> None:
        self._kept = InMemorySpanExporter()
        self.traces = Traces(self._kept, "service", process)

    @property
    def spans(self) -> list[ReadableSpan]:
        """All of them, in the order of their beginnings and then from the outside in; there will be no more."""
        self.traces.close()
        return sorted(
            self._kept.get_finished_spans(), key=lambda span: (span.start_time or 0, span.kind is SpanKind.INTERNAL)
        )

    @property
    def span(self) -> ReadableSpan:
        """The only one."""
        (span,) = self.spans
        return span


@dataclass(frozen=True)
class Chain:
    """A gateway and a worker in one process."""

    http: httpx.AsyncClient
    app: Any
    rpc: Connection
    """To the worker."""


Chained = Callable[[Runtime], AbstractAsyncContextManager[Chain]]


def facts(span: ReadableSpan) -> Mapping[str, Any]:
    """The attributes."""
    return dict(span.attributes or {})


def ids(span: ReadableSpan) -> tuple[str, str, str]:
    """Trace, span and parent."""
    assert span.context is not None
    parent = "" if span.parent is None else f"{span.parent.span_id:016x}"
    return f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}", parent


def request_message() -> generation_pb2.GenerateRequest:
    """Any request."""
    return generation_pb2.GenerateRequest(request=convert.request_message(tokens_request([1])))
