"""Which trace a span belongs to: the caller's, or one of its own."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from runtime.telemetry.otlp import Traces
from runtime.telemetry.traces import outgoing
from support.rpc import connected
from support.scripted import ScriptedRuntime
from support.serving import tokens_request
from support.tracing import BODY, FIRST, LAST, Chained, Process, ids, request_message

pytestmark = pytest.mark.anyio

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
"""The example of the W3C recommendation."""
PARENT = {"traceparent": f"00-{TRACE}-{CALLER}-01"}


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
