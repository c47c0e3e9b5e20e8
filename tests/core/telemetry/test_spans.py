"""What spans tell of a request and its reply, in both processes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode
from runtime.errors import InvalidRequest
from support.scripted import ScriptedRuntime
from support.serving import arithmetic_runtime
from support.tracing import BODY, COMPLETION, FIRST, LAST, Chained, Process, facts

pytestmark = pytest.mark.anyio
GENERATE = "runtime.v1.Generation/Generate"


def length(span: ReadableSpan) -> int:
    """Nanoseconds."""
    assert span.start_time is not None
    assert span.end_time is not None
    return span.end_time - span.start_time


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


async def test_reply_without_timings(chained: Chained, worker: Process) -> None:
    """As from a worker that tells none; a greedy one has no seed."""
    last = replace(LAST, completion=replace(COMPLETION, timings=None, seed=None))
    async with chained(ScriptedRuntime(last)) as chain:
        await chain.http.post("/generate", json=BODY)
    assert {"seed", "total_time"}.isdisjoint(facts(worker.span))
