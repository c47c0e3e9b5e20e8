"""A backend of static shapes behind both processes, which waits in its warm-up until the test lets it go on."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from runtime.remote import RemoteRuntime
from runtime.runtime import Readiness
from support.planned import GATE
from support.plugin import install_plugin
from support.processes import START_SECONDS, Server
from support.scrape import read_scrape

FLAGS = (
    *("--backend", "planned", "--model-id", "demo", "--max-total-tokens", "200", "--max-batch-size", "4"),
    *("--pad-sequence-to-multiple-of", "64", "--prefill-batch-bucket-size", "2"),
)
VARIABLES = {"BATCH_BUCKET_SIZE": "2"}
# Prompts of up to 64, 128, 192 and 199 tokens in prefills of 2 and 4 rows, or the rest of one in 2 rows after up to 64,
# 128 and 199 tokens; pictures of 3, 4 and 5 tiles; and decode steps of 2 and 4 rows up to 64, 128 and 200 tokens.
PREFILLS, PICTURES, DECODES = 4 * 2 + 4 * 3, 3, 2 * 3
TOTAL = PREFILLS + PICTURES + DECODES


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """Makes `--backend planned` known."""
    return install_plugin(tmp_path / "plugins", "planned", "support.planned")


@pytest.fixture
def server(plugin: Path, tmp_path: Path) -> Iterator[Server]:
    """One that waits before the third shape."""
    os.mkfifo(tmp_path / "gate")
    server = Server(FLAGS, [plugin], {**VARIABLES, GATE: str(tmp_path / "gate")})
    try:
        yield server
    finally:
        with suppress(OSError):  # nobody waits at the gate
            os.close(os.open(tmp_path / "gate", os.O_WRONLY | os.O_NONBLOCK))
        server.kill()


def health(http: httpx.Client) -> httpx.Response:
    """The first answer after the gateway has heard of the warm-up."""
    deadline = time.monotonic() + START_SECONDS
    while "warming up: 2" not in (answer := http.get("/health")).text:
        assert time.monotonic() < deadline
    return answer


def details(http: httpx.Client) -> dict[str, Any]:
    facts: dict[str, Any] = http.get("/info").json()["details"]
    return facts


@pytest.mark.anyio
async def test_live_while_it_warms_up_and_ready_after(server: Server, tmp_path: Path) -> None:
    """Every way to ask tells how far it is; then it serves, and no batch has a shape that was not warmed."""
    server.http = server.wait_for(r"HTTP on (http://[^\s\"]+)")
    server.grpc = server.wait_for(r"gRPC on (?!unix:)([^\s\"]+)")
    assert server.wait_for(r"planned (\d+) shapes") == str(TOTAL)
    server.wait_for("warming up: 0 of")
    gate = os.open(tmp_path / "gate", os.O_WRONLY)  # opens when the backend waits at the other end
    remote = RemoteRuntime(server.grpc)
    with server.client() as http:
        answer = health(http)
        assert answer.status_code == 503
        assert answer.json()["error"].startswith(f"warming up: 2 of {TOTAL} shapes, prefill ")
        assert answer.json()["error_type"] == "healthcheck"
        assert http.post("/generate", json={"inputs": "What?"}).status_code == 503
        facts = details(http)
        assert (facts["warmup"], facts["warmup_done"], facts["warmup_total"]) == ("running", "2", str(TOTAL))
        assert (await remote.health()).readiness is Readiness.WARMING
        async with grpc.aio.insecure_channel(server.grpc) as channel:
            told = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert told.status == health_pb2.HealthCheckResponse.NOT_SERVING
        os.close(gate)
        server.wait_for(f"warmed {TOTAL} of {TOTAL} shapes in")
        server.wait_for("Connected")
        assert http.get("/health").status_code == 200
        facts = details(http)
        assert (facts["warmup"], facts["warmup_done"]) == ("done", str(TOTAL))
        assert (facts["plan_prefill_shapes"], facts["plan_decode_shapes"]) == (str(PREFILLS), str(DECODES))
        assert (facts["capacity_rows"], facts["capacity_context"]) == ("4", "200")
        assert http.post("/generate", json={"inputs": "What?", "parameters": {"max_new_tokens": 9}}).status_code == 200
        scraped = read_scrape(http.get("/metrics").content)
    assert scraped["runtime_warmup_shapes"].values == {"warmed": TOTAL, "left": 0}
    assert scraped["runtime_backend_stat"].values["unknown_shapes"] == 0
    # Once more, by hand.
    assert [progress.done async for progress in remote.warmup()] == list(range(1, TOTAL + 1))
    await remote.aclose()


def test_warm_up_can_be_skipped(plugin: Path) -> None:
    """By its variable; one line says what that costs."""
    server = Server(FLAGS, [plugin], {**VARIABLES, "WARMUP_ENABLED": "false"})
    try:
        server.http = server.wait_for(r"HTTP on (http://[^\s\"]+)")
        server.wait_for(
            rf"the warm-up is off \(--no-warmup-enabled\): each of {TOTAL} shapes is met for the first time"
        )
        server.wait_for("Connected")
        with server.client() as http:
            assert details(http)["warmup"] == "skipped"
    finally:
        server.kill()
