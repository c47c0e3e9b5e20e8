"""Flags that decide who waits for whom, on a backend that the test stops and lets go on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from runtime.backend import Limits, ModelSpec
from runtime.local import LocalRuntime
from runtime.prompt.builder import Draft, PromptBuilder
from runtime.runtime import GenerateRequest
from runtime.serve.assembly import build_runtime, model_of
from support import arithmetic
from support.asgi import client
from support.command_line import settings_of
from support.gated import GatedBackend, submissions
from support.serving import reply, tokens_request

pytestmark = pytest.mark.anyio

Serve = Callable[..., AbstractAsyncContextManager[tuple[LocalRuntime, GatedBackend]]]
MANY = 1000


@pytest.fixture
def serve(arithmetic_plugin: Path, monkeypatch: pytest.MonkeyPatch) -> Serve:
    """Serve the demo model with these flags; also tells the backend, which waits before each decode."""
    loaded: list[GatedBackend] = []

    def load(_model: ModelSpec, limits: Limits) -> GatedBackend:
        loaded.append(GatedBackend(limits))
        return loaded[-1]

    monkeypatch.syspath_prepend(str(arithmetic_plugin))
    monkeypatch.setattr(arithmetic, "SPEC", replace(arithmetic.SPEC, load=load))

    @asynccontextmanager
    async def serve(*flags: str) -> AsyncIterator[tuple[LocalRuntime, GatedBackend]]:
        settings = settings_of("--model-id", "demo", "--backend", "arithmetic", *flags)
        runtime = build_runtime(settings, model_of(settings))
        await asyncio.wrap_future(runtime.engine.loaded)
        try:
            yield runtime, loaded[-1]
        finally:
            loaded[-1].gate.release(MANY)
            await runtime.aclose()

    return serve


@pytest.mark.proves("--queue-threshold-ms")
@pytest.mark.parametrize(("threshold", "order"), [("0", ["long", "short"]), ("1000000", ["short", "long"])])
async def test_queue_threshold_ms(threshold: str, order: list[str], serve: Serve) -> None:
    """With 0 whoever came first, and long before the threshold the shortest."""
    ended = []

    async def ask(name: str, length: int) -> None:
        await reply(runtime, tokens_request([1] * length, 1))
        ended.append(name)

    async with serve("--max-batch-size", "1", "--queue-threshold-ms", threshold) as (runtime, backend):
        busy = asyncio.ensure_future(reply(runtime, tokens_request([1, 500], 2)))
        await backend.started()
        given, waiting = submissions(runtime), []
        for name, length in (("long", 30), ("short", 5)):
            waiting.append(asyncio.ensure_future(ask(name, length)))
            await given.acquire()
        backend.gate.release(MANY)
        await asyncio.gather(busy, *waiting)
    assert ended == order


@pytest.mark.proves("--waiting-served-ratio", "--max-waiting-tokens")
@pytest.mark.parametrize(("ratio", "tokens", "steps"), [("1", "5", 1), ("2", "5", 5), ("2", "3", 3)])
async def test_interruption(ratio: str, tokens: str, steps: int, serve: Serve) -> None:
    """One newcomer is enough to interrupt one running request, or waits for so many of its tokens."""
    flags = ("--waiting-served-ratio", ratio, "--max-waiting-tokens", tokens)
    async with serve(*flags) as (runtime, backend):
        running = asyncio.ensure_future(reply(runtime, tokens_request([1, 500], 20)))
        await backend.started()
        given = submissions(runtime)
        newcomer = asyncio.ensure_future(reply(runtime, tokens_request([1, 700], 1)))
        await given.acquire()
        backend.gate.release(MANY)
        await asyncio.gather(running, newcomer)
    hooks = [hook for hook, _rows in backend.calls]
    assert hooks[: steps + 2] == ["prefill", *["decode"] * steps, "prefill"]


@pytest.mark.proves("--max-concurrent-requests")
async def test_max_concurrent_requests(serve: Serve) -> None:
    """One more than the limit is refused at once, and served when there is room again."""
    body = {"inputs": "a", "parameters": {"max_new_tokens": 2}}
    async with serve("--max-concurrent-requests", "1") as (runtime, backend), client(runtime) as http:
        running = asyncio.ensure_future(http.post("/generate", json=body))
        await backend.started()
        refused = await http.post("/generate", json=body)
        backend.gate.release(MANY)
        assert [refused.status_code, (await running).status_code] == [429, 200]
        assert (await http.post("/generate", json=body)).status_code == 200


@pytest.mark.proves("--max-queue")
async def test_max_queue(serve: Serve) -> None:
    """One runs and one waits; one more is refused before its picture is looked at, and is served later."""
    body = {"inputs": "a", "parameters": {"max_new_tokens": 2}}
    broken = {"inputs": "![](data:image/png;base64,AAAA)", "parameters": {"max_new_tokens": 2}}
    chat = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 2}
    async with serve("--max-batch-size", "1", "--max-queue", "1") as (runtime, backend), client(runtime) as http:
        running = asyncio.ensure_future(http.post("/generate", json=body))
        await backend.started()
        given = submissions(runtime)
        waiting = asyncio.ensure_future(http.post("/generate", json=body))
        await given.acquire()
        refused = [
            await http.post("/generate", json=broken),
            await http.post("/generate_stream", json=body),
            await http.post("/v1/chat/completions", json=chat),
        ]
        backend.gate.release(MANY)
        assert [answer.status_code for answer in await asyncio.gather(running, waiting)] == [200, 200]
        assert (await http.post("/generate", json=body)).status_code == 200
    assert [answer.status_code for answer in refused] == [429] * 3
    assert all("1 of at most 1 requests wait" in answer.text for answer in refused)
    assert all(1 <= int(answer.headers["retry-after"]) <= 600 for answer in refused)


@pytest.mark.proves("--max-queue-seconds")
async def test_max_queue_seconds(serve: Serve) -> None:
    """Where nobody may wait, a request is refused while the only slot is taken; but for the time it is not known."""
    body = {"inputs": "a", "parameters": {"max_new_tokens": 3}}
    async with (
        serve("--max-batch-size", "1", "--max-queue-seconds", "0") as (runtime, backend),
        client(runtime) as http,
    ):
        first = asyncio.ensure_future(http.post("/generate", json=body))
        await backend.started()
        given = submissions(runtime)
        second = asyncio.ensure_future(http.post("/generate", json=body))
        await given.acquire()
        backend.gate.release(4)
        assert [(await first).status_code, (await second).status_code] == [200, 200]
        running = asyncio.ensure_future(http.post("/generate", json=body))
        await given.acquire()
        refused = await http.post("/generate", json=body)
        backend.gate.release(MANY)
        assert (await running).status_code == 200
        assert (await http.post("/generate", json=body)).status_code == 200
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 600
    assert "the server takes no request that waits longer than 0.0 s" in refused.text


@pytest.mark.proves("--validation-workers")
async def test_validation_workers(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three prompts are prepared at once: each waits for the two others. By default two are."""
    together = threading.Barrier(3)
    draft = PromptBuilder.draft

    def wait_and_draft(builder: PromptBuilder, request: GenerateRequest) -> Draft:
        together.wait(30)
        return draft(builder, request)

    monkeypatch.setattr(PromptBuilder, "draft", wait_and_draft)
    async with serve("--validation-workers", "3") as (runtime, _backend):
        prompts = await asyncio.gather(*(runtime.tokenize(tokens_request([1, 500 + n])) for n in range(3)))
    assert [[token.id for token in prompt.tokens] for prompt in prompts] == [[1, 500], [1, 501], [1, 502]]
