"""A full server, through the gateway: refused at once over both protocols, with the time to come back."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from runtime.errors import Overloaded
from runtime.remote import RemoteRuntime
from support.plugin import install_plugin
from support.processes import Server, serving
from support.serving import reply, tokens_request

LONG = {"inputs": "What shape is green?", "parameters": {"max_new_tokens": 50}}
FLAGS = ("--backend", "piped", "--model-id", "demo", "--max-batch-size", "1", "--max-queue", "0")


@dataclass(frozen=True)
class FullServer:
    """A server with one row and no queue, and the pipe that lets its backend go on."""

    server: Server
    gate: int


@pytest.fixture
def full(tmp_path: Path) -> Iterator[FullServer]:
    """Its backend waits for the pipe before each decode."""
    os.mkfifo(tmp_path / "gate")
    gate = os.open(tmp_path / "gate", os.O_RDWR)
    plugins = install_plugin(tmp_path, "piped", "support.piped")
    with serving(*FLAGS, folders=[plugins], variables={"GATE": str(tmp_path / "gate")}) as server:
        yield FullServer(server, gate)


@pytest.fixture
async def grpc(full: FullServer) -> AsyncIterator[RemoteRuntime]:
    """Its public gRPC port."""
    remote = RemoteRuntime(full.server.grpc)
    yield remote
    await remote.aclose()


@pytest.mark.anyio
async def test_full_server(full: FullServer, grpc: RemoteRuntime) -> None:
    """The reply that runs is whole in the end, and the next one is served."""
    with full.server.client() as http:
        with http.stream("POST", "/generate_stream", json=LONG) as running:
            lines = running.iter_lines()
            assert next(lines).startswith("data:")
            refused = http.post("/generate", json=LONG)
            with pytest.raises(Overloaded, match="the server is full") as caught:
                await reply(grpc, tokens_request([1, 500]))
            os.write(full.gate, b"." * 200)
            assert "generated_text" in [line for line in lines if line][-1]
        assert (refused.status_code, refused.json()["error_type"]) == (429, "overloaded")
        assert 1 <= int(refused.headers["retry-after"]) <= 600
        assert caught.value.retry_after is not None
        assert http.post("/generate", json=LONG).status_code == 200
        scrape = http.get("/metrics").text
    assert 'runtime_requests_refused_total{reason="queue_full"} 2.0' in scrape
