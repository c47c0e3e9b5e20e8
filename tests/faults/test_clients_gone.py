"""Clients that hang up, at every stage of a request and over both protocols: the row is free, and nothing is left.

There are two rows. Neighbours run meanwhile; their texts are compared, byte for byte, with those of an undisturbed run.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from runtime.remote import RemoteRuntime
from support.chaos import HOLD, Hurt, hurting
from support.processes import Server
from support.scrape import read_scrape
from support.serving import tokens_request
from support.streams import Streams, read, sound

pytestmark = pytest.mark.anyio

NEIGHBOURS: list[dict[str, Any]] = [
    {"inputs": f"What shape is {colour}?", "parameters": {"max_new_tokens": 60}} for colour in ("green", "red")
]
LENGTH = 2000
"""Of the reply that nobody waits for: twenty seconds and more."""
SECONDS = 10.0
"""After which all of it must be gone."""


@pytest.fixture(scope="module")
def hurt(tmp_path_factory: pytest.TempPathFactory, arithmetic_plugin: Path) -> Iterator[Hurt]:
    """The arithmetic backend with two rows."""
    arguments = ("--backend", "arithmetic", "--ignore-eos", "--max-batch-size", "2")
    with hurting(tmp_path_factory.mktemp("hurt"), *arguments, plugins=[arithmetic_plugin]) as hurt:
        yield hurt


@pytest.fixture(scope="module")
def undisturbed(hurt: Hurt) -> list[str | None]:
    return sound(asyncio.run(read(hurt.server.http, NEIGHBOURS)))


async def over_http(server: Server) -> AsyncGenerator[int, None]:
    """The tokens of a long reply."""
    body = {"inputs": "What shape is blue?", "parameters": {"max_new_tokens": LENGTH}}
    async with (
        httpx.AsyncClient(base_url=server.http, timeout=120, trust_env=False) as http,
        http.stream("POST", "/generate_stream", json=body) as response,
    ):
        async for line in response.aiter_lines():
            if line.startswith("data:"):
                yield json.loads(line.removeprefix("data:"))["token"]["id"]


async def over_grpc(server: Server) -> AsyncGenerator[int, None]:
    """The tokens of a long reply."""
    runtime = RemoteRuntime(server.grpc)
    try:
        async with aclosing(runtime.generate(tokens_request([1, 500], LENGTH))) as deltas:
            async for delta in deltas:
                for token in delta.tokens:
                    yield token.id
    finally:
        await runtime.aclose()


class Client:
    """One that will hang up."""

    def __init__(self, tokens: AsyncGenerator[int, None]) -> None:
        self._told: asyncio.Queue[int] = asyncio.Queue()
        self._reading = asyncio.ensure_future(self._read(tokens))

    async def _read(self, tokens: AsyncGenerator[int, None]) -> None:
        async with aclosing(tokens):
            async for token in tokens:
                self._told.put_nowait(token)

    async def has(self, count: int) -> None:
        """Wait for so many tokens."""
        for _ in range(count):
            await asyncio.wait_for(self._told.get(), 60)

    async def hang_up(self) -> None:
        self._reading.cancel()
        with suppress(asyncio.CancelledError):
            await self._reading


def number(hurt: Hurt, *names: str) -> float:
    """The sum of metrics of the worker."""
    with hurt.server.client() as http:
        scrape = read_scrape(http.get("/metrics").content)
    return sum(scrape[name].values[""] for name in names)


async def until(wanted: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not await asyncio.to_thread(wanted):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


def is_ready(hurt: Hurt) -> bool:
    with hurt.server.client() as http:
        return http.get("/readyz").status_code == 200


def handles(hurt: Hurt) -> int:
    """Open files and sockets of the gateway."""
    return len(os.listdir(f"/proc/{hurt.server.process.pid}/fd"))  # noqa: PTH208


Start = Callable[[], Client]


async def decoding(_hurt: Hurt, start: Start) -> Client:
    client = start()
    await client.has(3)
    return client


async def queued(hurt: Hurt, start: Start) -> Client:
    """The neighbours hold both rows."""
    client = start()
    await until(lambda: number(hurt, "tgi_queue_size") == 1)
    return client


async def in_its_prefill(hurt: Hurt, start: Start) -> Client:
    hurt.order("prefill", HOLD)
    client = start()
    await hurt.held()
    return client


async def waiting_for_a_worker(hurt: Hurt, start: Start) -> Client:
    client = start()
    await client.has(3)
    os.kill(hurt.server.worker, signal.SIGKILL)
    await until(lambda: not is_ready(hurt))
    return client


async def replayed(hurt: Hurt, start: Start) -> Client:
    """The next worker computes what was told before."""
    client = await waiting_for_a_worker(hurt, start)
    hurt.order("decode", HOLD)
    await hurt.held()
    return client


Stage = Callable[[Hurt, Start], Awaitable[Client]]


@pytest.mark.parametrize("connect", [over_http, over_grpc])
@pytest.mark.parametrize(
    ("stage", "neighbours"),
    [
        (decoding, 1),
        (queued, 2),
        (in_its_prefill, 1),
        pytest.param(waiting_for_a_worker, 1, marks=pytest.mark.long),
        pytest.param(replayed, 1, marks=pytest.mark.long),
    ],
)
async def test_client_that_hangs_up(
    hurt: Hurt,
    undisturbed: list[str | None],
    stage: Stage,
    neighbours: int,
    connect: Callable[[Server], AsyncGenerator[int, None]],
) -> None:
    """Its row is free long before its reply would be whole, and the neighbours notice nothing."""
    before = handles(hurt)
    async with Streams(hurt.server.http, NEIGHBOURS[:neighbours]) as streams:
        await streams.have(3)
        client = await stage(hurt, lambda: Client(connect(hurt.server)))
        await client.hang_up()
        hurt.let_go()
        await streams.end()
        assert sound(streams.all) == undisturbed[:neighbours]
    await until(lambda: number(hurt, "runtime_rows_used", "tgi_queue_size") == 0)
    await until(lambda: handles(hurt) <= before)
