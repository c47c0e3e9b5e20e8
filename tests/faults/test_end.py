"""SIGTERM while something is already going wrong, or about to: clients are told, and the server ends in order.

In a warm-up, in the drain and twice: `tests/end_to_end/test_health.py`.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.chaos import HOLD, Hurt, chaos_around, hurting
from support.processes import Server
from support.streams import Streams, read, sound

pytestmark = pytest.mark.anyio

BODIES: list[dict[str, Any]] = [
    {"inputs": f"What shape is {colour}?", "parameters": {"max_new_tokens": 100}} for colour in ("green", "red", "blue")
]


@pytest.fixture
def hurt(tmp_path: Path, arithmetic_plugin: Path) -> Iterator[Hurt]:
    """One server for each test, as each ends it."""
    with hurting(tmp_path, "--backend", "arithmetic", "--ignore-eos", plugins=[arithmetic_plugin]) as hurt:
        yield hurt


async def not_ready(hurt: Hurt) -> None:
    with hurt.server.client() as http:
        while http.get("/readyz").status_code == 200:  # noqa: ASYNC110  # what it waits for is another process
            await asyncio.sleep(0.05)


async def ended_in_order(server: Server) -> None:
    assert await asyncio.to_thread(server.wait) == 0
    assert server.tracebacks == 0


def assert_told(streams: Streams) -> None:
    """Each ended with an error that says why, behind what it was told before."""
    for stream in streams.all:
        assert len(stream.ids) >= 3
        assert stream.error is not None
        assert stream.error["error_type"] == "unavailable"
        assert "the server is stopping" in stream.error["error"]


async def test_in_a_prefill(hurt: Hurt) -> None:
    """The reply whose prompt is being computed is one that runs: it ends whole, and so do its neighbours."""
    undisturbed = sound(await read(hurt.server.http, BODIES))
    async with Streams(hurt.server.http, BODIES[:2]) as running:
        await running.have(3)
        hurt.order("prefill", HOLD)
        async with Streams(hurt.server.http, BODIES[2:]) as coming:
            await hurt.held()
            hurt.server.signal(signal.SIGTERM)
            await not_ready(hurt)
            hurt.let_go()
            await asyncio.gather(running.end(), coming.end())
            assert sound(running.all + coming.all) == undisturbed
    await ended_in_order(hurt.server)


async def test_while_a_crashed_worker_restarts(hurt: Hurt) -> None:
    """The streams that wait for it end with an error, at once."""
    async with Streams(hurt.server.http, BODIES) as streams:
        await streams.have(3)
        os.kill(hurt.server.worker, signal.SIGKILL)
        await not_ready(hurt)
        hurt.server.signal(signal.SIGTERM)
        await streams.end()
        assert_told(streams)
    await ended_in_order(hurt.server)


@pytest.mark.long
async def test_while_the_next_worker_loads(hurt: Hurt) -> None:
    """One that loads for long is not waited for."""
    async with Streams(hurt.server.http, BODIES) as streams:
        await streams.have(3)
        hurt.order("load", HOLD)
        os.kill(hurt.server.worker, signal.SIGKILL)
        await hurt.held()
        hurt.server.signal(signal.SIGTERM)
        await streams.end()
        assert_told(streams)
    await ended_in_order(hurt.server)


@pytest.mark.long
async def test_worker_that_dies_in_the_drain(hurt: Hurt) -> None:
    """No other one will come for the replies that run."""
    async with Streams(hurt.server.http, BODIES) as streams:
        await streams.have(3)
        hurt.server.signal(signal.SIGTERM)
        await not_ready(hurt)
        os.kill(hurt.server.worker, signal.SIGKILL)
        await streams.end()
        assert_told(streams)
    await ended_in_order(hurt.server)


@contextmanager
def loading(folder: Path, plugin: Path) -> Iterator[Hurt]:
    """A server whose worker is held in the load of its model."""
    wrapper, orders = chaos_around(folder)
    arguments = ("--backend", "arithmetic", "--model-id", "demo", "--wrap", "chaos")
    (orders / "load").write_text(HOLD)
    server = Server(arguments, [wrapper, plugin], {"CHAOS": str(orders)})
    try:
        yield Hurt(server, orders)
    finally:
        server.kill()


@pytest.mark.long
async def test_in_the_load(tmp_path: Path, arithmetic_plugin: Path) -> None:
    """The server ends though the load does not; until then it is alive and not ready."""
    with loading(tmp_path, arithmetic_plugin) as hurt:
        hurt.server.http = hurt.server.wait_for(r"HTTP on (http://[^\s\"]+)")
        await hurt.held()
        with hurt.server.client() as http:
            assert (http.get("/livez").status_code, http.get("/readyz").status_code) == (200, 503)
        hurt.server.signal(signal.SIGTERM)
        await ended_in_order(hurt.server)
