"""What spans tell of requests that are refused, fail, or are left by their clients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import pytest
from opentelemetry.trace import StatusCode
from runtime.errors import BackendError, InvalidRequest, NotReady, Overloaded
from runtime.http.app import create_app
from runtime.http.options import HttpOptions
from runtime.runtime import Delta, GenerateRequest
from support.asgi import Exchange
from support.scripted import ScriptedRuntime
from support.tracing import BODY, FIRST, LAST, Chained, Process, facts, request_message

pytestmark = pytest.mark.anyio


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
