"""Spans of OpenTelemetry: what is told of each request. Imported only when traces are wanted.

Attributes have the names of OpenTelemetry's semantic conventions (HTTP, RPC, generative AI); times, in seconds, and the
seed those of TGI's span `generate`. No span holds what a user wrote, what a reply says, or a key.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from contextvars import Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from runtime.errors import RuntimeServiceError
from runtime.runtime import Completion, Delta, Timings
from runtime.telemetry.traces import Metadata, ServerSpan, serving

if TYPE_CHECKING:
    from typing_extensions import Self

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})
"""Of HTTP; the conventions have one name for all others, since names of spans should be few."""
FAULTS: Final = frozenset({"INTERNAL", "UNAVAILABLE"})
"""Codes of gRPC for what the server did wrong; to the conventions a client's mistake is no error of a server's span."""

propagator: Final = TraceContextTextMapPropagator()


class _RequestSpan:
    """A span of kind SERVER, in the trace of whoever asked when that is told."""

    def __init__(
        self,
        tracer: Tracer,
        name: str,
        headers: Iterable[tuple[str, str | bytes]],
        attributes: Mapping[str, AttributeValue],
    ) -> None:
        self._started = time.time_ns()
        self._span = tracer.start_span(
            name, propagator.extract(_carrier(headers)), SpanKind.SERVER, attributes, start_time=self._started
        )
        self._has_failed = False

    def __enter__(self) -> Self:
        self._token: Token[ServerSpan | None] = serving.set(self)
        return self

    def _end(self) -> None:
        with suppress(ValueError):  # a stream that nobody reads to its end is closed by another task
            serving.reset(self._token)
        self._span.end()

    @property
    def metadata(self) -> Metadata:
        carrier: dict[str, str] = {}
        propagator.inject(carrier, set_span_in_context(self._span))
        return tuple(carrier.items())

    def failed(self, error: Exception) -> None:
        """Record the error's class; its text only for a fault of the server, as others may repeat what a user wrote."""
        self._has_failed = True
        self._span.set_attribute("error.type", type(error).__name__)
        if not isinstance(error, RuntimeServiceError):
            self._span.set_status(Status(StatusCode.ERROR))
        elif error.grpc_code in FAULTS:
            self._span.set_status(Status(StatusCode.ERROR, error.message))


class HttpSpan(_RequestSpan):
    """The span of an HTTP request, from its headers to the last byte of the answer."""

    def __init__(self, tracer: Tracer, scope: Mapping[str, Any]) -> None:
        self._scope = scope
        self._name = scope["method"] if scope["method"] in METHODS else "HTTP"
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
        super().__init__(tracer, self._name, headers, dict(_http_attributes(scope, dict(headers))))

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        route = getattr(self._scope.get("route"), "path", None)
        if route is not None:
            self._span.update_name(f"{self._name} {route}")
            self._span.set_attribute("http.route", route)
        if isinstance(error, Exception):
            self.failed(error)
            self.answered(500)
        self._end()

    def answered(self, status: int) -> None:
        """Record the status of the answer."""
        self._span.set_attribute("http.response.status_code", status)
        if status >= 500 and not self._has_failed:
            self._span.set_attribute("error.type", str(status))
            self._span.set_status(Status(StatusCode.ERROR))


class CallSpan(_RequestSpan):
    """The span of a call over gRPC that streams a reply, and below it, where the reply is made, the stages."""

    def __init__(
        self, tracer: Tracer, method: str, metadata: Iterable[tuple[str, str | bytes]], computes: bool
    ) -> None:
        """`method` is `SERVICE/METHOD`; `computes`: whether this process makes the reply, not one behind it."""
        super().__init__(tracer, method, metadata, {"rpc.system.name": "grpc", "rpc.method": method})
        self._tracer = tracer
        self._computes = computes
        self._has_begun = self._is_complete = False

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        code = "OK"
        if isinstance(error, Exception):
            self.failed(error)
            code = error.grpc_code if isinstance(error, RuntimeServiceError) else RuntimeServiceError.grpc_code
        elif error is not None and not self._is_complete:  # a reader may leave once it has the last token
            code = "CANCELLED"
        self._span.set_attribute("rpc.response.status_code", code)
        self._end()

    def told(self, delta: Delta) -> None:
        """Record that the first token came, and with the last what the reply was."""
        if not self._has_begun:
            self._has_begun = True
            self._span.add_event("first_token")
        if delta.completion is None:
            return
        self._is_complete = True
        self._span.set_attributes(dict(_reply_attributes(delta.completion)))
        if self._computes and delta.completion.timings is not None:
            self._add_stages(delta.completion.timings)

    def _add_stages(self, timings: Timings) -> None:
        """Add a span for each stage, one after the other from the beginning of the call."""
        context, start = set_span_in_context(self._span), self._started
        stages = (("validation", timings.validation), ("queue", timings.queue), ("inference", timings.inference))
        for name, seconds in stages:
            end = start + round(seconds * 1e9)
            self._tracer.start_span(name, context, start_time=start).end(end)
            start = end


def _carrier(headers: Iterable[tuple[str, str | bytes]]) -> Mapping[str, list[str]]:
    """Return the headers that name the trace of whoever asked."""
    carrier: dict[str, list[str]] = {}
    for name, value in headers:
        if name in propagator.fields and isinstance(value, str):
            carrier.setdefault(name, []).append(value)
    return carrier


def _http_attributes(scope: Mapping[str, Any], headers: Mapping[str, str]) -> Iterator[tuple[str, AttributeValue]]:
    """Yield what is known before the answer; not the query, in which clients put what they should not."""
    yield "http.request.method", scope["method"] if scope["method"] in METHODS else "_OTHER"
    yield "url.scheme", scope["scheme"]
    yield "url.path", scope["path"]
    yield "network.protocol.version", scope["http_version"]
    for side in ("client", "server"):
        host, port = scope.get(side) or (None, None)
        if host is not None:
            yield f"{side}.address", host
        if port is not None:
            yield f"{side}.port", port
    if "user-agent" in headers:
        yield "user_agent.original", headers["user-agent"]


def _reply_attributes(completion: Completion) -> Iterator[tuple[str, AttributeValue]]:
    yield "gen_ai.usage.input_tokens", completion.prompt_tokens
    yield "gen_ai.usage.output_tokens", completion.generated_tokens
    yield "gen_ai.response.finish_reasons", (completion.finish_reason.value,)
    if completion.seed is not None:
        yield "seed", str(completion.seed)  # it may exceed the integers of a span, which are signed
    if completion.timings is not None:
        yield "total_time", completion.timings.total
        yield "validation_time", completion.timings.validation
        yield "queue_time", completion.timings.queue
        yield "inference_time", completion.timings.inference
        yield "time_per_token", completion.timings.inference / completion.generated_tokens
