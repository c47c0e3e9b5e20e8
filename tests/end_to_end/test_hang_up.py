"""A client that hangs up gives its row to the next one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass

import httpx
import pytest
from runtime.remote import RemoteRuntime
from support.plugin import install_plugin
from support.processes import Server, serving
from support.serving import tokens_request

LONG = {"inputs": "What shape is green?", "parameters": {"max_new_tokens": 2000}}
SHORT = {"inputs": "What shape is green?", "parameters": {"max_new_tokens": 2, "details": True}}
STEPS = 300
"""Far fewer than the long reply needs, and far more than pass while a hang-up is on its way."""


@dataclass(frozen=True)
class GatedServer:
    """A server with one row, and the pipe that lets its backend go on."""

    server: Server
    gate: int

    def assert_answers(self) -> None:
        """Ask for a short reply, and let the backend take steps until it comes."""
        with ThreadPoolExecutor(1) as pool, self.server.client() as http:
            answer = pool.submit(http.post, "/generate", json=SHORT)
            for _ in range(STEPS):
                os.write(self.gate, b".")
                if wait([answer], timeout=0.05).done:
                    break
            assert answer.done(), "the row is still held by the reply that nobody reads"
        tokens = answer.result().json()["details"]["tokens"]
        assert [token["id"] for token in tokens] == [640, 680]


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatedServer]:
    """One row, so that whoever does not give it back blocks everybody."""
    folder = tmp_path_factory.mktemp("gated")
    os.mkfifo(folder / "gate")
    gate = os.open(folder / "gate", os.O_RDWR)  # both ends, so that neither side waits for the other to open
    plugins = install_plugin(folder, "piped", "support.piped")
    arguments = ("--backend", "piped", "--model-id", "demo", "--max-batch-size", "1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GATE", str(folder / "gate"))
        with serving(*arguments, folders=[plugins]) as server:
            yield GatedServer(server, gate)
            os.close(gate)  # whatever still decodes reads the end of the pipe and goes on


def test_stream_that_is_closed(gated: GatedServer) -> None:
    """After its first token."""
    with gated.server.client() as http, http.stream("POST", "/generate_stream", json=LONG) as stream:
        assert next(stream.iter_lines()).startswith("data:")
    gated.assert_answers()


def test_reply_that_is_not_waited_for(gated: GatedServer) -> None:
    """Before anything of it was sent."""
    with gated.server.client() as http, pytest.raises(httpx.ReadTimeout):
        http.post("/generate", json=LONG, timeout=0.5)
    gated.assert_answers()


@pytest.mark.anyio
async def test_call_that_is_cancelled(gated: GatedServer) -> None:
    """Over gRPC, after its first token."""
    runtime = RemoteRuntime(gated.server.grpc)
    stream = runtime.generate(tokens_request([1, 500], 2000))
    await anext(stream)
    await stream.aclose()
    await runtime.aclose()
    await asyncio.to_thread(gated.assert_answers)
