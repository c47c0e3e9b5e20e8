"""The worker by itself, in the test's own process and on its event loop."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from runtime.config import Settings
from runtime.errors import BackendError, ModelRefused, RuntimeServiceError, StartupError
from runtime.remote import RemoteRuntime
from runtime.serve.worker import run_worker
from support.arithmetic import expected
from support.hub_server import FILES, MODEL_ID, WEIGHTS, hub_server, use_hub
from support.serving import ids, reply, tokens_request

pytestmark = pytest.mark.anyio

SETTINGS = Settings.of(model_id="demo", backend="arithmetic")
SERVING = health_pb2.HealthCheckResponse.SERVING


@pytest.fixture(autouse=True)
def _arithmetic(arithmetic_plugin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the backend known."""
    monkeypatch.syspath_prepend(arithmetic_plugin)


@pytest.fixture(autouse=True)
async def _signals_as_they_were() -> AsyncIterator[None]:
    """Let Ctrl-C end the tests again."""
    yield
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().remove_signal_handler(number)


@asynccontextmanager
async def worker(address: str) -> AsyncIterator[asyncio.Task[None]]:
    """A worker that serves."""
    running = asyncio.ensure_future(run_worker(SETTINGS, address, supervised=False))
    async with grpc.aio.insecure_channel(address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), wait_for_ready=True)
        async for answer in watch:
            if answer.status == SERVING:
                break
        watch.cancel()
    yield running
    assert running.done()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_serves_until_a_signal_comes(number: signal.Signals, tmp_path: Path) -> None:
    """And ends without an error."""
    address = f"unix:{tmp_path / 'w'}"
    async with worker(address) as running:
        remote = RemoteRuntime(address)
        assert ids(await reply(remote, tokens_request([1, 500], 3))) == expected([1, 500], 3)
        await remote.aclose()
        os.kill(os.getpid(), number)
        await asyncio.wait_for(running, 20)


async def test_dead_device_thread_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the supervisor can start another."""
    monkeypatch.setattr("runtime.scheduler.Scheduler.next_step", lambda *_arguments: 1 / 0)
    address = f"unix:{tmp_path / 'w'}"
    async with worker(address) as running:
        remote = RemoteRuntime(address)
        with pytest.raises(BackendError, match="the server failed"):
            await reply(remote, tokens_request([1, 500], 3))
        await remote.aclose()
        with pytest.raises(RuntimeServiceError, match="the device thread ended"):
            await asyncio.wait_for(running, 20)


async def test_model_that_cannot_be_served(tmp_path: Path) -> None:
    """Known before it listens."""
    settings = Settings.of(model_id=str(tmp_path), backend="arithmetic")
    with pytest.raises(ModelRefused):
        await run_worker(settings, f"unix:{tmp_path / 'w'}", supervised=False)
    assert not (tmp_path / "w").exists()


async def test_model_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is fetched beside the event loop; an order to stop does not wait for it."""
    loop, halfway, go_on = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def wait(name: str) -> None:
        if name == WEIGHTS:
            loop.call_soon_threadsafe(halfway.set)
            go_on.wait(20)

    with hub_server(FILES) as hub:
        use_hub(monkeypatch, hub)
        hub.halfway = wait
        settings = replace(SETTINGS, model_id=MODEL_ID, huggingface_hub_cache=str(tmp_path / "cache"))
        running = asyncio.ensure_future(run_worker(settings, f"unix:{tmp_path / 'w'}", supervised=False))
        await asyncio.wait_for(halfway.wait(), 20)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(running, 20)
        assert not go_on.is_set()
        go_on.set()


async def test_address_that_cannot_be_served(tmp_path: Path) -> None:
    """The model that began to load is given up."""
    with pytest.raises(StartupError, match="cannot serve gRPC on unix:"):
        await run_worker(SETTINGS, f"unix:{tmp_path / 'missing' / 'w'}", supervised=False)
