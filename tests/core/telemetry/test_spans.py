"""What spans tell, of both processes in one: the HTTP application, its client of gRPC, and the server behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from runtime.errors import BackendError, InvalidRequest, NotReady, Overloaded
from runtime.http.app import create_app
from runtime.http.options import HttpOptions
from runtime.rpc import convert
from runtime.runtime import Completion, Delta, FinishReason, GenerateRequest, Runtime, Timings
from runtime.telemetry.otlp import Traces
from runtime.telemetry.traces import outgoing
from runtime.v1 import generation_pb2
from support.asgi import Exchange
from support.rpc import Connection, connected
from support.scripted import ScriptedRuntime, token
from support.serving import arithmetic_runtime, tokens_request

pytestmark = pytest.mark.anyio

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
"""The example of the W3C recommendation."""
PARENT = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
TIMINGS = Timings(validation=0.5, queue=0.25, inference=1.5, total=2.25)
COMPLETION = Completion("one two", FinishReason.EOS_TOKEN, 2, 5, seed=2**64 - 1, timings=TIMINGS)
FIRST, LAST = Delta((token("one"),)), Delta((token(" two"),), COMPLETION)
BODY = {"inputs": "a secret", "parameters": {"max_new_tokens": 2}}
GENERATE = "runtime.v1.Generation/Generate"


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


@pytest.fixture
def gateway() -> Iterator[Process]:
    process = Process("gateway")
    yield process
    process.traces.close()


@pytest.fixture
def worker() -> Iterator[Process]:
    process = Process("worker")
    yield process
    process.traces.close()


@dataclass(frozen=True)
class Chain:
    """A gateway and a worker in one process."""

    http: httpx.AsyncClient
    app: Any
    rpc: Connection
    """To the worker."""


Chained = Callable[[Runtime], AbstractAsyncContextManager[Chain]]


@pytest.fixture
def chained(gateway: Process, worker: Process, tmp_path: Path) -> Chained:
    """Puts both processes before a runtime."""

    @asynccontextmanager
    async def chain(runtime: Runtime) -> AsyncIterator[Chain]:
        async with connected(runtime, tmp_path, traces=worker.traces) as rpc:
            app = create_app(rpc.remote, HttpOptions(10_000, api_key="hunter2"), gateway.traces)
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            headers = {"authorization": "Bearer hunter2"}
            async with httpx.AsyncClient(transport=transport, base_url="http://server", headers=headers) as http:
                yield Chain(http, app, rpc)

    return chain


def facts(span: ReadableSpan) -> Mapping[str, Any]:
    """The attributes."""
    return dict(span.attributes or {})


def ids(span: ReadableSpan) -> tuple[str, str, str]:
    """Trace, span and parent."""
    assert span.context is not None
    parent = "" if span.parent is None else f"{span.parent.span_id:016x}"
    return f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}", parent


def length(span: ReadableSpan) -> int:
    """Nanoseconds."""
    assert span.start_time is not None
    assert span.end_time is not None
    return span.end_time - span.start_time


async def test_one_trace_for_a_request(chained: Chained, gateway: Process, worker: Process) -> None:
    """The client's span, the gateway's, the worker's, its stages."""
    async with chained(ScriptedRuntime(FIRST, LAST)) as chain:
        response = await chain.http.post("/generate", json=BODY, headers=PARENT)
        assert response.status_code == 200, response.text
    (request,), (call, *stages) = gateway.spans, worker.spans
    assert (ids(request)[0], ids(request)[2]) == (TRACE, CALLER)
    assert (ids(call)[0], ids(call)[2]) == (TRACE, ids(request)[1])
    assert {(ids(stage)[0], ids(stage)[2]) for stage in stages} == {(TRACE, ids(call)[1])}
    assert [span.kind for span in (request, call, *stages)] == [SpanKind.SERVER] * 2 + [SpanKind.INTERNAL] * 3


async def test_facts_of_a_request(chained: Chained, gateway: Process) -> None:
    """The names of OpenTelemetry's conventions."""
    async with chained(ScriptedRuntime(FIRST, LAST)) as chain:
        await chain.http.post("/generate?key=hunter2", json=BODY, headers={"user-agent": "curl/8.0"})
    assert gateway.span.name == "POST /generate"
    assert facts(gateway.span) == {
        "http.request.method": "POST",
        "http.route": "/generate",
        "http.response.status_code": 200,
        "url.scheme": "http",
        "url.path": "/generate",
        "network.protocol.version": "1.1",
        "client.address": "127.0.0.1",
        "client.port": 123,
        "server.address": "server",
        "user_agent.original": "curl/8.0",
    }
    assert gateway.span.status.status_code is StatusCode.UNSET


async def test_facts_of_a_reply(chained: Chained, worker: Process) -> None:
    """Tokens, why it ended, the seed, the times; each stage follows the one before."""
    async with chained(ScriptedRuntime(FIRST, LAST)) as chain:
        await chain.http.post("/generate", json=BODY)
    call, *stages = worker.spans
    assert call.name == GENERATE
    assert facts(call) == {
        "rpc.system.name": "grpc",
        "rpc.method": GENERATE,
        "rpc.response.status_code": "OK",
        "gen_ai.usage.input_tokens": 5,
        "gen_ai.usage.output_tokens": 2,
        "gen_ai.response.finish_reasons": ("eos_token",),
        "seed": "18446744073709551615",
        "validation_time": 0.5,
        "queue_time": 0.25,
        "inference_time": 1.5,
        "total_time": 2.25,
        "time_per_token": 0.75,
    }
    assert [event.name for event in call.events] == ["first_token"]
    assert [(stage.name, length(stage)) for stage in stages] == [
        ("validation", 500_000_000),
        ("queue", 250_000_000),
        ("inference", 1_500_000_000),
    ]
    assert [stage.start_time for stage in stages] == [call.start_time, *(stage.end_time for stage in stages[:-1])]


async def test_stages_fit_into_a_real_reply(chained: Chained, worker: Process) -> None:
    """The last does not end after the call."""
    async with arithmetic_runtime() as runtime, chained(runtime) as chain:
        assert (await chain.http.post("/generate", json=BODY)).status_code == 200
    call, *stages = worker.spans
    assert [stage.name for stage in stages] == ["validation", "queue", "inference"]
    assert call.end_time is not None
    assert stages[-1].end_time is not None
    assert stages[-1].end_time <= call.end_time


async def test_nothing_that_a_user_wrote_is_told(chained: Chained, gateway: Process, worker: Process) -> None:
    """Neither a prompt, nor a reply, nor a key, nor a wrong value."""
    error = InvalidRequest("`stop` holds 'a secret'")
    for script in ((FIRST, LAST), (FIRST, error), (error,)):
        async with chained(ScriptedRuntime(*script)) as chain:
            for path in ("/generate", "/generate_stream", "/nowhere?a%20secret"):
                await chain.http.post(path, json=BODY)
    told = "".join(span.to_json() for span in [*gateway.spans, *worker.spans])
    assert told.count("InvalidRequest") > 4
    for secret in ("secret", "hunter2", "one", " two"):
        assert secret not in told.replace(ScriptedRuntime.__name__, "")


@pytest.mark.parametrize("path", ["/", "/health", "/ping", "/metrics"])
async def test_probes_are_not_traced(path: str, chained: Chained, gateway: Process, worker: Process) -> None:
    """They come every few seconds, and tell nothing."""
    async with chained(ScriptedRuntime(FIRST, LAST)) as chain:
        assert (await chain.http.get(path)).status_code == 200
        assert (await chain.http.post("/", json=BODY)).status_code == 200
    assert [span.name for span in gateway.spans] == ["POST /"]
    assert [span.name for span in worker.spans if span.kind is SpanKind.SERVER] == [GENERATE]


@pytest.mark.parametrize(
    ("method", "path", "name", "told", "status"),
    [
        ("GET", "/nowhere", "GET", "GET", 404),
        ("BREW", "/generate", "HTTP /generate", "_OTHER", 405),
    ],
)
async def test_names_are_few(
    method: str, path: str, name: str, told: str, status: int, chained: Chained, gateway: Process
) -> None:
    """Whatever clients ask for."""
    async with chained(ScriptedRuntime()) as chain:
        await chain.http.request(method, path)
    assert gateway.span.name == name
    assert facts(gateway.span)["http.request.method"] == told
    assert facts(gateway.span)["http.response.status_code"] == status
    assert gateway.span.status.status_code is StatusCode.UNSET


async def test_refusals_before_the_routes_are_traced(chained: Chained, gateway: Process) -> None:
    """A key that is wrong, for one."""
    async with chained(ScriptedRuntime()) as chain:
        await chain.http.post("/generate", json=BODY, headers={"authorization": "Bearer x"})
    assert facts(gateway.span)["http.response.status_code"] == 401


@pytest.mark.parametrize(
    ("error", "http_status", "code", "is_fault"),
    [
        (InvalidRequest("too long"), 422, "INVALID_ARGUMENT", False),
        (Overloaded("full"), 429, "RESOURCE_EXHAUSTED", False),
        (BackendError("failed in prefill"), 424, "INTERNAL", True),
        (NotReady("loading"), 503, "UNAVAILABLE", True),
    ],
)
async def test_errors(
    error: Any, http_status: int, code: str, is_fault: bool, chained: Chained, gateway: Process, worker: Process
) -> None:
    """Their class and status on both sides; a client's mistake is no error of the server's spans."""
    async with chained(ScriptedRuntime(error)) as chain:
        assert (await chain.http.post("/generate", json=BODY)).status_code == http_status
    for span in (gateway.span, worker.span):
        assert facts(span)["error.type"] == type(error).__name__
        assert span.status.status_code is (StatusCode.ERROR if is_fault else StatusCode.UNSET)
        assert span.status.description == (error.message if is_fault else None)
    assert facts(gateway.span)["http.response.status_code"] == http_status
    assert facts(worker.span)["rpc.response.status_code"] == code


async def test_error_in_the_middle_of_a_stream(chained: Chained, gateway: Process, worker: Process) -> None:
    """The status was sent, but the trace shows it."""
    async with chained(ScriptedRuntime(FIRST, BackendError("lost"))) as chain:
        response = await chain.http.post("/generate_stream", json=BODY)
        assert response.status_code == 200
    assert facts(gateway.span)["http.response.status_code"] == 200
    assert [span.status.description for span in (gateway.span, worker.span)] == ["lost", "lost"]
    assert [event.name for event in worker.span.events] == ["first_token"]


async def test_unexpected_errors(chained: Chained, gateway: Process, worker: Process) -> None:
    """Told by their class, without their text."""
    async with chained(ScriptedRuntime(ValueError("/secret/path"))) as chain:
        assert (await chain.http.post("/generate", json=BODY)).status_code == 500
    assert (facts(worker.span)["error.type"], worker.span.status.description) == ("ValueError", None)
    assert facts(worker.span)["rpc.response.status_code"] == "INTERNAL"
    assert facts(gateway.span)["error.type"] == "RuntimeServiceError"
    assert "secret" not in worker.span.to_json() + gateway.span.to_json()


async def test_crash_of_the_gateway_s_own_code(gateway: Process) -> None:
    """The answer is made behind the span's back."""
    app = create_app(ScriptedRuntime(ValueError("/secret/path")), HttpOptions(10_000), gateway.traces)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as http:
        assert (await http.post("/generate", json=BODY)).status_code == 500
    assert (facts(gateway.span)["error.type"], facts(gateway.span)["http.response.status_code"]) == ("ValueError", 500)
    assert gateway.span.status.status_code is StatusCode.ERROR


class Endless(ScriptedRuntime):
    """Streams its script and then waits for the reader to go."""

    def __init__(self, *script: Delta) -> None:
        super().__init__(*script)
        self.gone = asyncio.Event()

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Delta, None]:
        try:
            async for delta in super().generate(request):
                yield delta
            await asyncio.Event().wait()
        finally:
            self.gone.set()


async def test_hang_up_over_http(chained: Chained, gateway: Process, worker: Process) -> None:
    """Both spans end; the worker's says why."""
    runtime = Endless(FIRST)
    async with chained(runtime) as chain:
        app = create_app(chain.rpc.remote, HttpOptions(10_000), gateway.traces)
        exchange = Exchange(app, "/generate_stream", BODY)
        assert await exchange.status() == 200
        await exchange.hang_up()
        await runtime.gone.wait()
    assert facts(worker.span)["rpc.response.status_code"] == "CANCELLED"
    assert facts(gateway.span)["http.response.status_code"] == 200
    assert {span.status.status_code for span in (gateway.span, worker.span)} == {StatusCode.UNSET}


@pytest.mark.parametrize(("delta", "code"), [(FIRST, "CANCELLED"), (LAST, "OK")])
async def test_hang_up_over_grpc(delta: Delta, code: str, chained: Chained, worker: Process) -> None:
    """A reader that leaves with the last token has all it wanted."""
    runtime = Endless(delta)
    async with chained(runtime) as chain:
        call = chain.rpc.generation.Generate(request_message())
        await call.read()
        call.cancel()
        await runtime.gone.wait()
    assert facts(worker.spans[0])["rpc.response.status_code"] == code


async def test_public_grpc(gateway: Process, worker: Process, tmp_path: Path) -> None:
    """The caller's trace goes through the gateway; the stages are told once, where they happen."""
    (inner := tmp_path / "worker").mkdir()
    (outer := tmp_path / "gateway").mkdir()
    async with (
        connected(ScriptedRuntime(FIRST, LAST), inner, traces=worker.traces) as behind,
        connected(behind.remote, outer, traces=gateway.traces) as public,
    ):
        metadata = (*PARENT.items(), ("tracestate", "vendor=1"), ("other-bin", b"\xff"))
        _ = [each async for each in public.generation.Generate(request_message(), metadata=metadata)]
    (call,), (inside, *stages) = gateway.spans, worker.spans
    assert (ids(call)[0], ids(call)[2]) == (TRACE, CALLER)
    assert (ids(inside)[0], ids(inside)[2]) == (TRACE, ids(call)[1])
    assert len(stages) == 3
    assert inside.context is not None
    assert inside.context.trace_state.to_header() == "vendor=1"


async def test_each_call_has_a_trace_of_its_own(chained: Chained, gateway: Process, worker: Process) -> None:
    """Unless a caller says otherwise; also when they come at once, and over one connection."""
    async with chained(ScriptedRuntime(FIRST, LAST)) as chain:
        await asyncio.gather(*(chain.http.post("/generate", json=BODY) for _ in range(5)))
        async with aclosing(chain.rpc.remote.generate(tokens_request([1]))) as deltas:
            _ = [delta async for delta in deltas]
    traces = {ids(span)[0]: ids(span)[1] for span in gateway.spans}
    calls = [span for span in worker.spans if span.kind is SpanKind.SERVER]
    parents = {ids(span)[0]: ids(span)[2] for span in calls}
    assert len(traces) == 5
    assert len(calls) == len(parents) == 6
    assert {trace: parent for trace, parent in parents.items() if parent} == traces


async def test_caller_that_does_not_record(chained: Chained, gateway: Process, worker: Process) -> None:
    """Neither do we, in either process."""
    async with chained(ScriptedRuntime(FIRST, LAST)) as chain:
        headers = {"traceparent": f"00-{TRACE}-{CALLER}-00"}
        assert (await chain.http.post("/generate", json=BODY, headers=headers)).status_code == 200
    assert (gateway.spans, worker.spans) == ([], [])


async def test_reply_without_timings(chained: Chained, worker: Process) -> None:
    """As from a worker that tells none; a greedy one has no seed."""
    last = replace(LAST, completion=replace(COMPLETION, timings=None, seed=None))
    async with chained(ScriptedRuntime(last)) as chain:
        await chain.http.post("/generate", json=BODY)
    assert {"seed", "total_time"}.isdisjoint(facts(worker.span))


WELL_FORMED = st.from_regex(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", fullmatch=True)
HEADER = st.one_of(WELL_FORMED, st.from_regex(r"[0-9a-f]{2}-[0-9a-f]*-[0-9a-f]*-.*"), st.text(max_size=600))


@given(st.lists(st.tuples(st.sampled_from(["traceparent", "tracestate", "other"]), HEADER | st.binary()), max_size=4))
def test_any_headers(headers: list[tuple[str, str | bytes]]) -> None:
    """A trace that cannot be read is begun anew."""
    traces = Traces(InMemorySpanExporter(), "service", "gateway")
    try:
        scope = {"method": "GET", "scheme": "http", "path": "/", "http_version": "1.1"}
        encoded = [
            (name.encode(), value if isinstance(value, bytes) else value.encode("latin-1", "replace"))
            for name, value in headers
        ]
        with traces.request({**scope, "headers": encoded}):
            ((name, value), *_) = outgoing()
        with traces.call("a/b", headers):
            pass
    finally:
        traces.close()
    assert (name, len(value)) == ("traceparent", 55)
    assert outgoing() == ()


def request_message() -> generation_pb2.GenerateRequest:
    """Any request."""
    return generation_pb2.GenerateRequest(request=convert.request_message(tokens_request([1])))
