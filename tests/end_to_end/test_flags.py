"""`runtime serve` with nearly every flag, and what each one does."""

from __future__ import annotations

import base64
import io
import json
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from runtime.errors import InvalidRequest, Overloaded
from runtime.remote import RemoteRuntime
from runtime.runtime import FinishReason, StepRequest
from support.arithmetic import EOS
from support.processes import Server, serving
from support.serving import ids, reply, tokens_request

HOST = "127.0.0.2"
"""Another address of the loopback than the default of these tests."""
KEY = "hunter2"
FLAGS = [
    *("--model-id", "demo", "--backend", "arithmetic"),
    *("--hostname", HOST, "--api-key", KEY, "--cors-allow-origin", "http://page", "--compute-type", "abacus+beads"),
    *("--messages-api-enabled", "--json-output", "--ignore-eos"),
    *("--max-input-tokens", "400", "--max-total-tokens", "420", "--max-batch-size", "3"),
    *("--max-batch-prefill-tokens", "500", "--max-batch-total-tokens", "1000"),
    *("--payload-limit", "20000", "--max-best-of", "3", "--max-stop-sequences", "5", "--max-top-n-tokens", "6"),
    *("--max-client-batch-size", "5", "--max-images", "1", "--max-image-bytes", "1000", "--max-image-pixels", "2000"),
]


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where step operations are taken, without the key."""
    return f"unix:{tmp_path_factory.mktemp('admin') / 's'}"


@pytest.fixture(scope="module")
def server(arithmetic_plugin: Path, admin: str) -> Iterator[Server]:
    """One for all flags."""
    with serving(*FLAGS, "--admin-listen", admin, folders=[arithmetic_plugin]) as server:
        yield server


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    """A client that has the key."""
    with server.client() as http:
        http.headers["authorization"] = f"Bearer {KEY}"
        yield http


@pytest.fixture
async def grpc(server: Server, admin: str) -> AsyncIterator[RemoteRuntime]:
    """Over gRPC prompts may be token ids."""
    remote = RemoteRuntime(admin)
    yield remote
    await remote.aclose()


def statuses(http: httpx.Client, *parameters: dict[str, Any]) -> list[int]:
    """Of /generate with each of these parameters."""
    bodies = [{"inputs": "a", "parameters": {"max_new_tokens": 2, **each}} for each in parameters]
    return [http.post("/generate", json=body).status_code for body in bodies]


def markdown(side: int, *, noise: bool = False) -> str:
    """A square picture; one of noise takes about three bytes for each pixel."""
    picture, file = Image.new("RGB", (side, side)), io.BytesIO()
    if noise:
        picture.frombytes(random.Random(1).randbytes(3 * side * side))
    picture.save(file, "PNG")
    return f"![](data:image/png;base64,{base64.b64encode(file.getvalue()).decode()})"


def rows(count: int, prompt: int, replies: int) -> list[StepRequest]:
    """So many prompts of so many tokens, for so long replies."""
    return [StepRequest(n, tokens_request([1] * prompt, replies)) for n in range(count)]


@pytest.mark.proves("--hostname")
def test_hostname(server: Server) -> None:
    """Nobody listens at the other addresses."""
    assert server.http.startswith(f"http://{HOST}:")
    assert httpx.get(f"{server.http}/health", trust_env=False).status_code == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.http.replace(HOST, "127.0.0.1") + "/health", trust_env=False)


@pytest.mark.proves("--api-key")
def test_api_key(server: Server, http: httpx.Client) -> None:
    """Without it nothing is told."""
    assert http.get("/info").status_code == 200
    with server.client() as stranger:
        assert stranger.get("/info").status_code == 401


@pytest.mark.proves("--cors-allow-origin")
def test_cors_allow_origin(http: httpx.Client) -> None:
    """Pages of other origins may not read replies."""
    allowed = [
        http.get("/health", headers={"origin": origin}).headers.get("access-control-allow-origin")
        for origin in ("http://page", "http://other")
    ]
    assert allowed == ["http://page", None]


@pytest.mark.proves("--compute-type")
def test_compute_type(http: httpx.Client) -> None:
    """A header of every reply."""
    assert http.post("/generate", json={"inputs": "a"}).headers["x-compute-type"] == "abacus+beads"


@pytest.mark.proves("--messages-api-enabled")
def test_messages_api_enabled(http: httpx.Client) -> None:
    """/invocations answers as the chat route."""
    answer = http.post("/invocations", json={"messages": [{"role": "user", "content": "a"}], "max_tokens": 2})
    assert answer.json()["object"] == "chat.completion"


@pytest.mark.proves("--json-output")
def test_json_output(server: Server) -> None:
    """Every line of both processes."""
    lines = [json.loads(line) for line in server.output]
    assert {line["target"] for line in lines} == {"serve", "worker"}
    assert lines[-1]["message"] == "Connected"


@pytest.mark.anyio
@pytest.mark.proves("--max-input-tokens")
async def test_max_input_tokens(grpc: RemoteRuntime) -> None:
    """400 are served, 401 not."""
    assert len(ids(await reply(grpc, tokens_request([1] * 400, 2)))) == 2
    with pytest.raises(InvalidRequest, match="401 tokens and this server takes at most 400"):
        await reply(grpc, tokens_request([1] * 401, 2))


@pytest.mark.anyio
@pytest.mark.proves("--max-total-tokens")
async def test_max_total_tokens(grpc: RemoteRuntime) -> None:
    """The prompt leaves 20 for the reply."""
    assert len(ids(await reply(grpc, tokens_request([1] * 400, 20)))) == 20
    with pytest.raises(InvalidRequest, match="must be <= 420"):
        await reply(grpc, tokens_request([1] * 400, 21))


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("fitting", "beyond", "told"),
    [
        pytest.param((3, 2, 2), (4, 2, 2), "3", marks=pytest.mark.proves("--max-batch-size")),
        pytest.param((2, 250, 2), (2, 251, 2), "500", marks=pytest.mark.proves("--max-batch-prefill-tokens")),
        pytest.param((3, 100, 233), (3, 100, 234), "1000", marks=pytest.mark.proves("--max-batch-total-tokens")),
    ],
)
async def test_batch(
    fitting: tuple[int, int, int], beyond: tuple[int, int, int], told: str, grpc: RemoteRuntime
) -> None:
    """What fits into one batch is computed, and a row or a token more is refused."""
    await grpc.prefill(rows(*fitting))
    await grpc.release(None)
    with pytest.raises((InvalidRequest, Overloaded), match=told):
        await grpc.prefill(rows(*beyond))


@pytest.mark.anyio
@pytest.mark.proves("--ignore-eos")
async def test_ignore_eos(grpc: RemoteRuntime) -> None:
    """After the end of sequence, which 300 gives, the reply goes on."""
    answer = await reply(grpc, tokens_request([300], 3))
    assert (len(answer.tokens), ids(answer)[0]) == (3, EOS)
    assert answer.completion is not None
    assert answer.completion.finish_reason is FinishReason.LENGTH


@pytest.mark.proves("--payload-limit")
def test_payload_limit(http: httpx.Client) -> None:
    """A byte more is refused before it is looked at."""
    assert [http.post("/generate", content=b" " * size).status_code for size in (20_000, 20_001)] == [422, 413]


@pytest.mark.proves("--max-best-of")
def test_max_best_of(http: httpx.Client) -> None:
    """Three, and no more."""
    assert statuses(http, *({"best_of": n, "do_sample": True} for n in (3, 4))) == [200, 422]


@pytest.mark.proves("--max-stop-sequences")
def test_max_stop_sequences(http: httpx.Client) -> None:
    """Five, and no more."""
    assert statuses(http, {"stop": ["#"] * 5}, {"stop": ["#"] * 6}) == [200, 422]


@pytest.mark.proves("--max-top-n-tokens")
def test_max_top_n_tokens(http: httpx.Client) -> None:
    """Six, and no more."""
    assert statuses(http, {"top_n_tokens": 6}, {"top_n_tokens": 7}) == [200, 422]


@pytest.mark.proves("--max-client-batch-size")
def test_max_client_batch_size(http: httpx.Client) -> None:
    """Five prompts, and no more."""
    bodies = [{"prompt": ["a"] * count, "max_tokens": 2} for count in (5, 6)]
    assert [http.post("/v1/completions", json=body).is_success for body in bodies] == [True, False]


NOISE = markdown(10, noise=True), markdown(20, noise=True)


@pytest.mark.parametrize(
    ("fitting", "beyond", "told"),
    [
        pytest.param(markdown(20), markdown(20) * 2, "at most 1", marks=pytest.mark.proves("--max-images")),
        pytest.param(NOISE[0], NOISE[1], "1000", marks=pytest.mark.proves("--max-image-bytes")),
        pytest.param(markdown(44), markdown(45), "2000", marks=pytest.mark.proves("--max-image-pixels")),
    ],
    ids=["images", "bytes", "pixels"],
)
def test_pictures(fitting: str, beyond: str, told: str, http: httpx.Client) -> None:
    """One of at most 1000 bytes and 2000 pixels."""
    answers = [http.post("/generate", json={"inputs": each + "What?"}) for each in (fitting, beyond)]
    assert [answer.status_code for answer in answers] == [200, 422]
    assert told in answers[1].json()["error"]
