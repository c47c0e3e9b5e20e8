"""/generate, /generate_stream and /."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from runtime.errors import NotReady
from runtime.http.app import create_app
from runtime.http.options import HttpOptions
from runtime.runtime import (
    Candidate,
    Delta,
    FinishReason,
    GenerateRequest,
    Grammar,
    GrammarKind,
    ImageUrlPart,
    PrefillToken,
    SamplingParameters,
    StoppingParameters,
    TextPart,
    Token,
)
from support.asgi import Exchange, client
from support.scripted import COST_BODY, InTurn, ScriptedRuntime, last, token

pytestmark = pytest.mark.anyio

REPLY = (Delta((token(" one"),)), last(" one two", token(" two", 8), token("</s>", 2, special=True)))
TOKEN_7 = '{"id":7,"text":" one","logprob":-0.5,"special":false}'
TOKEN_8 = '{"id":8,"text":" two","logprob":-0.5,"special":false}'
COST = json.dumps(COST_BODY, separators=(",", ":"))
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
    """The fields are TGI's, in its order, and the prompt's cost; `prefill` stays empty."""
    async with client(ScriptedRuntime(REPLY[0], last(" one", token(" two", 8), seed=5))) as http:
        answer = await http.post("/generate", json={"inputs": "a", "parameters": {"details": True}})
    assert answer.text == (
        '{"generated_text":" one","details":{"finish_reason":"length","generated_tokens":3,"seed":5,'
        f'"prompt_cost":{COST},"prefill":[],"tokens":[{TOKEN_7},{TOKEN_8}]}}}}'
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
    details = f'{{"finish_reason":"length","generated_tokens":3,"seed":null,"prompt_cost":{COST},"input_length":5}}'
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
                "typical_p": 0.8,
                "repetition_penalty": 1.5,
                "frequency_penalty": 0.25,
                "watermark": True,
                "seed": 2**64 - 1,
                "max_new_tokens": 20,
                "stop": ["x", "y"],
                "truncate": 40,
                "top_n_tokens": 5,
                "decoder_input_details": True,
                "grammar": {"type": "regex", "value": "a+"},
            },
        }
    )
    assert request == GenerateRequest(
        parts=(ImageUrlPart("data:image/png;base64,AAAA"), TextPart("What?")),
        sampling=SamplingParameters(
            do_sample=True,
            temperature=0.5,
            top_k=10,
            top_p=0.9,
            typical_p=0.8,
            repetition_penalty=1.5,
            frequency_share=0.25,
            watermark=True,
            seed=2**64 - 1,
        ),
        stopping=StoppingParameters(max_new_tokens=20, stop=("x", "y")),
        truncate=40,
        top_n_tokens=5,
        prompt_logprobs=True,
        grammar=Grammar(GrammarKind.REGEX, "a+"),
    )


async def test_tokens_to_generate() -> None:
    """100 by default as in TGI 2.3; null fills the context."""
    assert (await parsed({"inputs": "a"})).stopping.max_new_tokens == 100
    assert (await parsed({"inputs": "a", "parameters": {"max_new_tokens": None}})).stopping.max_new_tokens is None


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


async def test_the_status_waits_for_the_first_token() -> None:
    """Nothing is sent while the first token may still turn out to be an error."""
    gate = asyncio.Event()

    class Slow(ScriptedRuntime):
        async def generate(self, request: GenerateRequest) -> Any:
            await gate.wait()
            async for delta in super().generate(request):
                yield delta

    exchange = Exchange(create_app(Slow(NotReady("gone")), HttpOptions(1000)), "/generate_stream", {"inputs": "a"})
    await exchange.accepted()
    gate.set()
    assert await exchange.status() == 503


CANDIDATES = (Candidate(7, " one", -0.5, False), Candidate(2, "</s>", float("-inf"), True))


async def test_candidates_of_each_token() -> None:
    """`top_tokens` in the details and in each event; JSON has no infinity."""
    runtime = ScriptedRuntime(last("a", Token(7, " one", -0.5, False, CANDIDATES)))
    body = {"inputs": "a", "parameters": {"details": True, "top_n_tokens": 2}}
    async with client(runtime) as http:
        whole = (await http.post("/generate", json=body)).text
        stream = (await http.post("/generate_stream", json=body)).text
    never = '{"id":2,"text":"</s>","logprob":null,"special":true}'
    assert f'"tokens":[{TOKEN_7}],"top_tokens":[[{TOKEN_7},{never}]]}}' in whole
    assert f'"token":{TOKEN_7},"top_tokens":[{TOKEN_7},{never}],"generated_text":"a"' in stream


async def test_prompt_details() -> None:
    """They imply details; nothing precedes the first token, so its log-probability is null."""
    prompt = (PrefillToken(1, "<s>", None), PrefillToken(9, "a", -0.25))
    runtime = ScriptedRuntime(Delta((token(" one"),), prefill=prompt), last(" one", token("")))
    async with client(runtime) as http:
        answer = await http.post("/generate", json={"inputs": "a", "parameters": {"decoder_input_details": True}})
    assert answer.json()["details"]["prefill"] == [
        {"id": 1, "text": "<s>", "logprob": None},
        {"id": 9, "text": "a", "logprob": -0.25},
    ]
    assert runtime.requests[0].prompt_logprobs


async def test_best_of() -> None:
    """The reply of the highest mean wins, here -0.5 over (-0.25 - 1) / 2; the others stand in its details."""
    short = last("short", Token(7, "short", -0.5, False), seed=1)
    long = last("longer", Token(8, "long", -0.25, False), Token(9, "er", -1.0, False), seed=2)
    runtime = InTurn((long,), (short,))
    body = {"inputs": "a", "parameters": {"best_of": 2, "do_sample": True, "details": True}}
    async with client(runtime) as http:
        answer = await http.post("/generate", json=body)
    assert answer.json()["generated_text"] == "short"
    details = answer.json()["details"]
    assert (details["seed"], [each["id"] for each in details["tokens"]]) == (1, [7])
    (other,) = details["best_of_sequences"]
    fields = ["generated_text", "finish_reason", "generated_tokens", "seed", "prompt_cost", "prefill", "tokens"]
    assert list(other) == fields
    assert (other["generated_text"], other["seed"], [each["id"] for each in other["tokens"]]) == ("longer", 2, [8, 9])
    assert [request.sampling.seed for request in runtime.requests] == [None, None]
    assert answer.headers["x-generated-tokens"] == "6"
    assert answer.headers["x-prompt-tokens"] == "5"


async def test_best_of_fails_as_a_whole() -> None:
    """One reply that fails ends the other."""
    runtime = InTurn((Delta((token("a"),)), last("a", token("a"))), (NotReady("gone"),))
    async with client(runtime) as http:
        answer = await http.post("/generate", json={"inputs": "a", "parameters": {"best_of": 2, "do_sample": True}})
    assert answer.status_code == 503
    assert runtime.closed == 2


async def test_full_text() -> None:
    """The prompt as it came, picture included, before the reply; in streams too."""
    inputs = "![](data:image/png;base64,AAAA)What?"
    body = {"inputs": inputs, "parameters": {"return_full_text": True}}
    async with client(ScriptedRuntime(*REPLY)) as http:
        whole = (await http.post("/generate", json=body)).json()
        stream = (await http.post("/generate_stream", json=body)).text
    assert whole == {"generated_text": inputs + " one two"}
    assert f'"generated_text":"{inputs} one two"' in stream


@pytest.mark.proves("POST /")
async def test_compatible_route() -> None:
    """A list of one, or a stream, as the body says."""
    async with client(ScriptedRuntime(*REPLY)) as http:
        whole = await http.post("/", json={"inputs": "a"})
        stream = await http.post("/", json={"inputs": "a", "stream": True})
        same = await http.post("/generate_stream", json={"inputs": "a"})
    assert whole.content == b'[{"generated_text":" one two"}]'
    assert stream.content == same.content


async def test_compatible_route_repeats_the_prompt_for_a_text_model() -> None:
    """As TGI does where the model's task is text generation, unless told otherwise."""
    runtime = ScriptedRuntime(*REPLY, vision=False)
    async with client(runtime) as http:
        default = (await http.post("/", json={"inputs": "a"})).json()
        without = (await http.post("/", json={"inputs": "a", "parameters": {"return_full_text": False}})).json()
        elsewhere = (await http.post("/generate", json={"inputs": "a"})).json()
    assert (default, without) == ([{"generated_text": "a one two"}], [{"generated_text": " one two"}])
    assert elsewhere == {"generated_text": " one two"}


@pytest.mark.parametrize(
    ("grammar", "kind", "value"),
    [
        ({"type": "json", "value": {"properties": {}}}, GrammarKind.JSON_SCHEMA, '{"properties": {}}'),
        ({"type": "json_object", "value": '{"type":"object"}'}, GrammarKind.JSON_SCHEMA, '{"type":"object"}'),
        ({"type": "regex", "value": "[ab]"}, GrammarKind.REGEX, "[ab]"),
    ],
)
async def test_grammars(grammar: object, kind: GrammarKind, value: str) -> None:
    """TGI's forms: a schema as object or text, or a regular expression."""
    request = await parsed({"inputs": "a", "parameters": {"grammar": grammar}})
    assert request.grammar == Grammar(kind, value)
