"""`runtime serve` with the arithmetic backend: both processes, over real sockets.

The prompt "What shape is green?" has the tokens 1 397 480 366 505 291, whose sum is 2040, so the reply is
400 + 2040 % 300 = 640, then 400 + 2680 % 300 = 680, then 460 and 620.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from runtime.errors import BackendError, InvalidRequest
from runtime.remote import RemoteRuntime
from runtime.runtime import Readiness
from support.arithmetic import FAILS, expected
from support.processes import Server
from support.serving import ids, reply, tokens_request

PROMPT, TOKENS, REPLY = "What shape is green?", (1, 397, 480, 366, 505, 291), [640, 680, 460, 620]


def body(count: int, **parameters: Any) -> dict[str, Any]:
    """Ask for that many tokens after the prompt."""
    return {"inputs": PROMPT, "parameters": {"max_new_tokens": count, **parameters}}


def test_generate(server: Server) -> None:
    """The reply's tokens are those worked out above."""
    with server.client() as http:
        answer = http.post("/generate", json=body(4, details=True)).json()
    assert [token["id"] for token in answer["details"]["tokens"]] == REPLY
    assert answer["details"]["finish_reason"] == "length"
    assert answer["generated_text"] == "".join(token["text"] for token in answer["details"]["tokens"])


def test_generate_stream(server: Server) -> None:
    """One event for each token, numbered from 1; the last has the text."""
    events = server.events(body(4))
    assert [event["token"]["id"] for event in events] == REPLY
    assert [event["index"] for event in events] == [1, 2, 3, 4]
    assert [event["generated_text"] is None for event in events] == [True, True, True, False]


@pytest.mark.anyio
@pytest.mark.proves(
    "runtime.v1.Generation/Generate",
    "runtime.v1.Generation/Tokenize",
    "runtime.v1.Generation/Info",
    "runtime.v1.Backend/Health",
)
async def test_grpc_through_both_processes(server: Server) -> None:
    """Tokens of the arithmetic backend's docstring, through the gateway's public port."""
    runtime = RemoteRuntime(server.grpc)
    try:
        assert ids(await reply(runtime, tokens_request([1, 500, 600], 4))) == [601, 602, 604, 608]
        told = await runtime.tokenize(tokens_request(TOKENS))
        assert [token.id for token in told.tokens] == list(TOKENS)
        assert (told.cost.bucket, told.cost.padding) == (len(TOKENS), 0)
        assert (await runtime.health()).readiness is Readiness.READY
        info = await runtime.info()
        assert (info.backend, info.device, info.model_id) == ("arithmetic", "cpu", "demo")
    finally:
        await runtime.aclose()


@pytest.mark.anyio
@pytest.mark.proves("grpc.health.v1.Health/Check")
async def test_health_of_grpc(server: Server) -> None:
    """The standard health service answers for the server and for each service."""
    async with grpc.aio.insecure_channel(server.grpc) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", "runtime.v1.Generation", "runtime.v1.Backend"):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_concurrent_streams_do_not_mix(server: Server) -> None:
    """More of them than rows, and each has its own tokens in order."""
    counts = [3 + 5 * n for n in range(12)]
    with ThreadPoolExecutor(len(counts)) as pool:
        streams = list(pool.map(lambda count: server.events(body(count)), counts))
    for count, events in zip(counts, streams, strict=True):
        assert [event["token"]["id"] for event in events] == expected(TOKENS, count)


@pytest.mark.anyio
async def test_failing_backend_is_told_and_survived(server: Server) -> None:
    """Tried three times; the error comes through both processes with its class, and of the cause only where it is."""
    runtime = RemoteRuntime(server.grpc)
    try:
        told = "failed 3 times.* backend arithmetic failed in prefill; the server's log has the cause"
        with pytest.raises(BackendError, match=told):
            await reply(runtime, tokens_request([1, FAILS]))
        with pytest.raises(InvalidRequest, match="`max_new_tokens` must be <= 2048"):
            await reply(runtime, tokens_request([1, 500], 5000))
        assert ids(await reply(runtime, tokens_request([1, 500], 2))) == expected([1, 500], 2)
    finally:
        await runtime.aclose()


def test_info(server: Server) -> None:
    """What the operator left to default is told as it came out."""
    with server.client() as http:
        info = http.get("/info").json()
    assert info["backend"] == "arithmetic"
    assert (info["max_input_tokens"], info["max_total_tokens"], info["max_batch_size"]) == (2047, 2048, 8)


@pytest.mark.proves("GET /metrics", "runtime.v1.Generation/Metrics")
def test_metrics(server: Server) -> None:
    """The worker's, through both processes: a reply of 4 tokens is counted."""

    def counts() -> list[float]:
        with server.client() as http:
            lines = dict(line.rsplit(" ", 1) for line in http.get("/metrics").text.splitlines())
        return [float(lines[name]) for name in ("tgi_request_success", "tgi_request_generated_tokens_sum")]

    before = counts()
    server.events(body(4))
    assert [after - then for after, then in zip(counts(), before, strict=True)] == [1, 4]
