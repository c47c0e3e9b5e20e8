"""The gateway and the worker of a trace."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from runtime.http.app import create_app
from runtime.http.options import HttpOptions
from runtime.runtime import Runtime
from support.rpc import connected
from support.tracing import Chain, Chained, Process


@pytest.fixture
def gateway() -> Iterator[Process]:
    process = Process("gateway")
    yield process
    process.traces.close()


@pytest.fixture
def worker() -> Iterator[Process]:
    process = Process("worker")
    yield process
    process.traces.close()


@pytest.fixture
def chained(gateway: Process, worker: Process, tmp_path: Path) -> Chained:
    """Puts both processes before a runtime."""

    @asynccontextmanager
    async def chain(runtime: Runtime) -> AsyncIterator[Chain]:
        async with connected(runtime, tmp_path, traces=worker.traces) as rpc:
            app = create_app(rpc.remote, HttpOptions(10_000, api_key="hunter2"), gateway.traces)
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            headers = {"authorization": "Bearer hunter2"}
            async with httpx.AsyncClient(transport=transport, base_url="http://server", headers=headers) as http:
                yield Chain(http, app, rpc)

    return chain
