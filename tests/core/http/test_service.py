"""Health, facts, metrics, documentation."""

from __future__ import annotations

import pytest
from runtime.backend import CONTRACT_VERSION
from runtime.errors import NotReady
from runtime.runtime import Health, Readiness
from support.asgi import client
from support.scripted import ScriptedRuntime
from support.serving import info

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("path", ["/health", "/ping", "/", "/readyz"])
@pytest.mark.proves("GET /", "GET /health", "GET /ping", "GET /readyz")
async def test_health(path: str) -> None:
    """200 and nothing else when requests are served."""
    async with client(ScriptedRuntime()) as http:
        answer = await http.get(path)
    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize("path", ["/health", "/ping", "/", "/readyz"])
@pytest.mark.parametrize(
    ("runtime", "told"),
    [
        (ScriptedRuntime(health=Health(Readiness.LOADING)), "unhealthy"),
        (ScriptedRuntime(health=Health(Readiness.FAILED, "the worker does not answer")), "the worker does not answer"),
        (ScriptedRuntime(health=Health(Readiness.STOPPING, "the server is stopping")), "the server is stopping"),
        (ScriptedRuntime(NotReady("no worker")), "unhealthy"),
    ],
)
async def test_unhealthy(runtime: ScriptedRuntime, told: str, path: str) -> None:
    """TGI's body, with the reason in place of its one word where there is one."""
    async with client(runtime) as http:
        answer = await http.get(path)
    assert answer.status_code == 503
    assert answer.json() == {"error": told, "error_type": "healthcheck"}
    assert "retry-after" not in answer.headers


async def test_warming_up() -> None:
    """How far it is, and when to ask again."""
    told = "warming up: 12 of 155 shapes, prefill 4 x 4096 done, about 3 min left"
    async with client(ScriptedRuntime(health=Health(Readiness.WARMING, told, seconds_left=171.2))) as http:
        answer = await http.get("/health")
    assert answer.status_code == 503
    assert answer.json() == {"error": told, "error_type": "healthcheck"}
    assert answer.headers["retry-after"] == "172"


@pytest.mark.proves("GET /livez")
async def test_alive() -> None:
    """Without a word to the worker."""
    async with client(ScriptedRuntime(NotReady("no worker"))) as http:
        answer = await http.get("/livez")
    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.proves("GET /info")
async def test_info() -> None:
    """TGI's names, and our own facts."""
    async with client(ScriptedRuntime(), max_best_of=3, max_client_batch_size=5) as http:
        answer = await http.get("/info")
    facts = info()
    assert answer.json() == {
        "model_id": "demo",
        "model_sha": facts.model_digest,
        "model_dtype": "bfloat16",
        "model_device_type": "cpu",
        "model_architecture": "LlavaNextForConditionalGeneration",
        "model_pipeline_tag": "image-text-to-text",
        "max_concurrent_requests": 16,
        "max_best_of": 3,
        "max_stop_sequences": 4,
        "max_input_tokens": 48,
        "max_input_length": 48,
        "max_total_tokens": 64,
        "max_batch_size": 4,
        "max_client_batch_size": 5,
        "max_batch_prefill_tokens": 2 * 48,
        "max_batch_total_tokens": 4 * 64,
        "waiting_served_ratio": 0.3,
        "max_waiting_tokens": 20,
        "validation_workers": 2,
        "router": "vlm-runtime",
        "version": "0",
        "sha": None,
        "docker_label": None,
        "backend": "arithmetic",
        "backend_version": "1.0",
        "contract": CONTRACT_VERSION,
        "details": {},
    }


async def test_metrics() -> None:
    """The worker's own text."""
    async with client(ScriptedRuntime()) as http:
        answer = await http.get("/metrics")
    assert (answer.status_code, answer.content) == (200, b"rows 4\n")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


async def test_metrics_without_a_worker() -> None:
    """The scrape fails."""
    async with client(ScriptedRuntime(NotReady("gone"))) as http:
        assert (await http.get("/metrics")).status_code == 503


@pytest.mark.proves("GET /docs", "GET /api-doc/openapi.json")
async def test_documentation() -> None:
    """A page for people and a description for programs, with every route but the health check that is doubled."""
    async with client(ScriptedRuntime()) as http:
        page = await http.get("/docs")
        description = (await http.get("/api-doc/openapi.json")).json()
    assert page.headers["content-type"].startswith("text/html")
    assert set(description["paths"]) == {
        *("/", "/generate", "/generate_stream", "/tokenize", "/chat_tokenize", "/invocations", "/vertex"),
        *("/v1/chat/completions", "/v1/completions", "/v1/models", "/v1/models/{model}"),
        *("/health", "/ping", "/livez", "/readyz", "/info", "/metrics"),
    }
    assert set(description["paths"]["/"]) == {"post"}
    for operations in description["paths"].values():
        for operation in operations.values():
            assert {"200", "422", "503"} <= set(operation["responses"])
