"""TGI's routes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from runtime.errors import NotReady
from runtime.http.app import create_app
from runtime.runtime import (
    Delta,
    FinishReason,
    GenerateRequest,
    Health,
    ImageUrlPart,
    Readiness,
    SamplingParameters,
    StoppingParameters,
    TextPart,
)
from support.asgi import Exchange, client
from support.scripted import ScriptedRuntime, last, token
from support.serving import info

pytestmark = pytest.mark.anyio

REPLY = (Delta((token(" one"),)), last(" one two", token(" two", 8), token("</s>", 2, special=True)))
TOKEN_7 = '{"id":7,"text":" one","logprob":-0.5,"special":false}'
TOKEN_8 = '{"id":8,"text":" two","logprob":-0.5,"special":false}'
TOKEN_2 = '{"id":2,"text":"</s>","logprob":-0.5,"special":true}'


async def parsed(body: object) -> GenerateRequest:
    """What the runtime is asked when this is posted."""
    runtime = ScriptedRuntime(*REPLY)
    async with client(runtime) as http:
        answer = await http.post("/generate", json=body)
    assert answer.status_code == 200, answer.text
    (request,) = runtime.requests
    return request


async def test_whole_reply() -> None:
    """Without details the text is all there is."""
    async with client(ScriptedRuntime(*REPLY)) as http:
        answer = await http.post("/generate", json={"inputs": "a"})
    assert answer.content == b'{"generated_text":" one two"}'
    assert answer.headers["content-type"] == "application/json"


async def test_whole_reply_with_details() -> None:
    """The fields are TGI's, in its order; `prefill` stays empty."""
    async with client(ScriptedRuntime(REPLY[0], last(" one", token(" two", 8), seed=5))) as http:
        answer = await http.post("/generate", json={"inputs": "a", "parameters": {"details": True}})
    assert answer.text == (
        '{"generated_text":" one","details":{"finish_reason":"length","generated_tokens":3,"seed":5,"prefill":[],'
        f'"tokens":[{TOKEN_7},{TOKEN_8}]}}}}'
    )


@pytest.mark.parametrize("reason", FinishReason)
async def test_finish_reasons_have_tgi_names(reason: FinishReason) -> None:
    """length, eos_token and stop_sequence."""
    async with client(ScriptedRuntime(last("a", token("a"), reason=reason))) as http:
        answer = await http.post("/generate", json={"inputs": "a", "parameters": {"details": True}})
    assert answer.json()["details"]["finish_reason"] == reason.name.lower()


async def test_stream_byte_for_byte() -> None:
    """An event for each token; text and details are null until the last one."""
    async with client(ScriptedRuntime(*REPLY)) as http:
        answer = await http.post("/generate_stream", json={"inputs": "a", "parameters": {"details": True}})
    details = '{"finish_reason":"length","generated_tokens":3,"seed":null,"input_length":5}'
    assert answer.text == (
        f'data: {{"index":1,"token":{TOKEN_7},"generated_text":null,"details":null}}\n\n'
        f'data: {{"index":2,"token":{TOKEN_8},"generated_text":null,"details":null}}\n\n'
        f'data: {{"index":3,"token":{TOKEN_2},"generated_text":" one two","details":{details}}}\n\n'
    )


async def test_stream_without_details() -> None:
    """`details` stays null in the last event too."""
    async with client(ScriptedRuntime(*REPLY)) as http:
        answer = await http.post("/generate_stream", json={"inputs": "a"})
    assert answer.text.endswith('"generated_text":" one two","details":null}\n\n')


async def test_stream_headers() -> None:
    """No proxy may hold events back."""
    async with client(ScriptedRuntime(*REPLY)) as http:
        answer = await http.post("/generate_stream", json={"inputs": "a"})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-accel-buffering"] == "no"


async def test_error_after_the_first_token_is_an_event() -> None:
    """The status is sent already; the stream ends with the error's usual body."""
    async with client(ScriptedRuntime(REPLY[0], NotReady("the worker is gone"))) as http:
        answer = await http.post("/generate_stream", json={"inputs": "a"})
    assert answer.status_code == 200
    assert answer.text == (
        f'data: {{"index":1,"token":{TOKEN_7},"generated_text":null,"details":null}}\n\n'
        'data: {"error":"the worker is gone","error_type":"unavailable"}\n\n'
    )


async def test_stream_is_closed_after_the_last_event() -> None:
    """A reply that was read to its end holds nothing."""
    runtime = ScriptedRuntime(*REPLY)
    async with client(runtime) as http:
        await http.post("/generate_stream", json={"inputs": "a"})
    assert runtime.closed == 1


async def test_missing_parameters_sample() -> None:
    """TGI samples when `parameters` is missing, and is greedy when it is there without do_sample."""
    assert (await parsed({"inputs": "a"})).sampling == SamplingParameters(do_sample=True)
    assert (await parsed({"inputs": "a", "parameters": {}})).sampling == SamplingParameters(do_sample=False)


async def test_every_parameter_arrives() -> None:
    """As given; the prompt is split at its pictures."""
    request = await parsed(
        {
            "inputs": "![](data:image/png;base64,AAAA)What?",
            "parameters": {
                "do_sample": True,
                "temperature": 0.5,
                "top_k": 10,
                "top_p": 0.9,
                "seed": 2**64 - 1,
                "max_new_tokens": 20,
                "stop": ["x", "y"],
            },
        }
    )
    assert request == GenerateRequest(
        parts=(ImageUrlPart("data:image/png;base64,AAAA"), TextPart("What?")),
        sampling=SamplingParameters(do_sample=True, temperature=0.5, top_k=10, top_p=0.9, seed=2**64 - 1),
        stopping=StoppingParameters(max_new_tokens=20, stop=("x", "y")),
    )


async def test_tokens_to_generate() -> None:
    """100 by default as in TGI 2.3; null fills the context."""
    assert (await parsed({"inputs": "a"})).stopping.max_new_tokens == 100
    assert (await parsed({"inputs": "a", "parameters": {"max_new_tokens": None}})).stopping.max_new_tokens is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("best_of", 2),
        ("repetition_penalty", 1.1),
        ("frequency_penalty", 0.1),
        ("typical_p", 0.9),
        ("return_full_text", True),
        ("truncate", 10),
        ("watermark", True),
        ("decoder_input_details", True),
        ("top_n_tokens", 3),
        ("grammar", {"type": "regex", "value": "a"}),
        ("adapter_id", "b"),
    ],
)
async def test_parameter_that_is_not_served(name: str, value: object) -> None:
    """Refused by name rather than ignored."""
    runtime = ScriptedRuntime()
    async with client(runtime) as http:
        answer = await http.post("/generate", json={"inputs": "a", "parameters": {name: value}})
    assert answer.status_code == 422
    assert answer.json()["error"] == f"Input validation error: `{name}` is not served yet; leave it out"
    assert not runtime.requests


async def test_values_that_ask_for_nothing_are_accepted() -> None:
    """Clients write out TGI's neutral values; unknown parameters are ignored as TGI does."""
    neutral = {
        "best_of": 1,
        "temperature": None,
        "repetition_penalty": 1.0,
        "frequency_penalty": None,
        "top_k": None,
        "top_p": None,
        "typical_p": None,
        "do_sample": False,
        "return_full_text": False,
        "truncate": None,
        "watermark": False,
        "decoder_input_details": False,
        "seed": None,
        "top_n_tokens": None,
        "grammar": None,
        "adapter_id": None,
        "of_a_later_version": 1,
    }
    request = await parsed({"inputs": "a", "parameters": neutral})
    assert request == GenerateRequest(parts=(TextPart("a"),), stopping=StoppingParameters(100))


async def test_top_k_of_0() -> None:
    """Refused as TGI does, although 0 is the neutral value inside."""
    async with client(ScriptedRuntime()) as http:
        answer = await http.post("/generate", json={"inputs": "a", "parameters": {"top_k": 0}})
    assert answer.status_code == 422
    assert "`top_k` must be above 0" in answer.json()["error"]


async def test_health() -> None:
    """200 and nothing else when requests are served."""
    async with client(ScriptedRuntime()) as http:
        answer = await http.get("/health")
    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize(
    "runtime",
    [
        ScriptedRuntime(health=Health(Readiness.LOADING)),
        ScriptedRuntime(health=Health(Readiness.FAILED, "no weights")),
        ScriptedRuntime(NotReady("no worker")),
    ],
)
async def test_unhealthy(runtime: ScriptedRuntime) -> None:
    """Loading, failed or without a worker: TGI's body."""
    async with client(runtime) as http:
        answer = await http.get("/health")
    assert answer.status_code == 503
    assert answer.json() == {"error": "unhealthy", "error_type": "healthcheck"}


async def test_info() -> None:
    """TGI's names, and our own facts."""
    async with client(ScriptedRuntime()) as http:
        answer = await http.get("/info")
    facts = info()
    assert answer.json() == {
        "model_id": "demo",
        "model_sha": facts.model_digest,
        "model_dtype": "bfloat16",
        "model_device_type": "cpu",
        "model_architecture": "LlavaNextForConditionalGeneration",
        "model_pipeline_tag": "image-text-to-text",
        "max_concurrent_requests": 16,
        "max_input_tokens": 48,
        "max_input_length": 48,
        "max_total_tokens": 64,
        "max_batch_size": 4,
        "router": "vlm-runtime",
        "version": "0",
        "backend": "arithmetic",
        "backend_version": "1.0",
        "contract": "1.0",
        "details": {},
    }


async def test_the_status_waits_for_the_first_token() -> None:
    """Nothing is sent while the first token may still turn out to be an error."""
    gate = asyncio.Event()

    class Slow(ScriptedRuntime):
        async def generate(self, request: GenerateRequest) -> Any:
            await gate.wait()
            async for delta in super().generate(request):
                yield delta

    exchange = Exchange(create_app(Slow(NotReady("gone")), 1000), "/generate_stream", {"inputs": "a"})
    await exchange.accepted()
    gate.set()
    assert await exchange.status() == 503
