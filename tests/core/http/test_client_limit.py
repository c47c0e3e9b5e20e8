"""`--max-concurrent-per-client` over HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from runtime.clients import ClientPlaces
from runtime.http.app import create_app
from runtime.http.options import HttpOptions
from support.asgi import Exchange
from support.scripted import ScriptedRuntime, last, token
from support.serving import arithmetic_runtime

pytestmark = pytest.mark.anyio

ASK = {"inputs": "two", "parameters": {"max_new_tokens": 20}}


def http_client(app: Any, address: str, **headers: str) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, client=(address, 1))
    return httpx.AsyncClient(transport=transport, base_url="http://server", headers=headers)


async def test_one_more_than_its_share() -> None:
    """429 for the client that has its share at work, whatever it says of itself; others and probes are served."""
    runtime = ScriptedRuntime(last("a", token("a")))
    app = create_app(runtime, HttpOptions(10_000), places=ClientPlaces(1))
    running = Exchange(app, "/generate_stream", ASK)
    running.writable.clear()
    assert await running.status() == 200
    async with http_client(app, "client", **{"x-forwarded-for": "other"}) as http:
        refused = await http.post("/generate", json=ASK)
        assert (refused.status_code, refused.json()["error_type"]) == (429, "overloaded")
        assert (await http.get("/health")).status_code == 200
    async with http_client(app, "other") as http:
        assert (await http.post("/generate", json=ASK)).status_code == 200
    running.writable.set()
    await asyncio.wait_for(running.ended, 20)
    async with http_client(app, "client") as http:
        assert (await http.post("/generate", json=ASK)).status_code == 200


async def test_a_client_that_hangs_up_has_its_place_again() -> None:
    """However its requests end."""
    async with arithmetic_runtime() as runtime:
        app = create_app(runtime, HttpOptions(10_000), places=ClientPlaces(1))
        for _ in range(3):
            running = Exchange(app, "/generate_stream", ASK)
            assert await running.status() == 200
            await running.hang_up()
