"""`runtime serve` as a container starts it: everything but its addresses from the environment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from runtime.remote import RemoteRuntime
from runtime.runtime import StepRequest
from support.processes import Server, serving
from support.serving import reply, tokens_request

VARIABLES = {
    "MODEL_ID": "demo",
    "RUNTIME_BACKEND": "arithmetic",
    "SKIP_TOKENIZER_IN_TGI": "true",
    "MAX_INPUT_LENGTH": "40",
    "MAX_BATCH_SIZE": "1",
    "LEASE_IDLE_SECONDS": "1.0",
    "CORS_ALLOW_ORIGIN": "http://page, http://other",
}


@pytest.fixture(scope="module")
def server(arithmetic_plugin: Path) -> Iterator[Server]:
    """One for all variables."""
    with serving(folders=[arithmetic_plugin], variables=VARIABLES) as server:
        yield server


@pytest.mark.proves("--model-id", "--backend")
def test_texts(server: Server) -> None:
    """MODEL_ID and RUNTIME_BACKEND: what is served."""
    with server.client() as http:
        info = http.get("/info").json()
    assert (info["model_id"], info["backend"]) == ("demo", "arithmetic")


@pytest.mark.proves("--skip-tokenizer")
def test_switch(server: Server) -> None:
    """SKIP_TOKENIZER_IN_TGI: ids in and ids out, those of the arithmetic backend's docstring."""
    body = {"inputs": "1,500,600", "parameters": {"max_new_tokens": 4}}
    with server.client() as http:
        assert http.post("/generate", json=body).json() == {"generated_text": ",601,602,604,608"}
        assert http.post("/generate", json={"inputs": "What?"}).status_code == 422


@pytest.mark.proves("--max-input-length")
def test_whole_number(server: Server) -> None:
    """MAX_INPUT_LENGTH: 40 tokens are served, 41 not."""
    bodies = [{"inputs": ",".join(["500"] * count), "parameters": {"max_new_tokens": 1}} for count in (40, 41)]
    with server.client() as http:
        assert [http.post("/generate", json=body).status_code for body in bodies] == [200, 422]


def test_list(server: Server) -> None:
    """CORS_ALLOW_ORIGIN: each of those between commas."""
    origins = ["http://page", "http://other", "http://third"]
    with server.client() as http:
        answers = [http.get("/health", headers={"origin": origin}) for origin in origins]
    assert [answer.headers.get("access-control-allow-origin") for answer in answers] == [*origins[:2], None]


@pytest.mark.anyio
@pytest.mark.proves("--lease-idle-seconds")
async def test_fraction(server: Server) -> None:
    """LEASE_IDLE_SECONDS: the only row, leased and left alone, goes to the next request; by default in five minutes."""
    remote = RemoteRuntime(server.grpc)
    try:
        await remote.prefill([StepRequest(1, tokens_request([1, 500]))])
        answer = await reply(remote, tokens_request([1, 500, 600], 4))
    finally:
        await remote.aclose()
    assert [token.id for token in answer.tokens] == [601, 602, 604, 608]
