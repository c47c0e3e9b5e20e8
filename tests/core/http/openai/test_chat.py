"""/v1/chat/completions without tools."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from runtime.cost import PromptCost
from runtime.errors import NotReady
from runtime.runtime import (
    Candidate,
    Delta,
    FinishReason,
    GenerateRequest,
    Grammar,
    GrammarKind,
    ImageUrlPart,
    Message,
    SamplingParameters,
    StoppingParameters,
    TextPart,
    Token,
)
from support.asgi import client, events
from support.scripted import DETAILS, InTurn, ScriptedRuntime, last, token
from support.serving import info

pytestmark = pytest.mark.anyio

PATH = "/v1/chat/completions"
REPLY = (Delta((token(" one"),)), last(" one two", token(" two", 8), token("</s>", 2, special=True)))
HELLO = {"messages": [{"role": "user", "content": "hello"}]}


async def parsed(**fields: object) -> GenerateRequest:
    """What the runtime is asked when these fields are posted."""
    runtime = ScriptedRuntime(*REPLY)
    async with client(runtime) as http:
        answer = await http.post(PATH, json={**HELLO, **fields})
    assert answer.status_code == 200, answer.text
    (request,) = runtime.requests
    return request


def choice(delta: dict[str, Any], reason: str | None = None, index: int = 0) -> dict[str, Any]:
    """The choice of a chunk."""
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}


async def test_whole_reply() -> None:
    """One choice, and what it cost."""
    async with client(ScriptedRuntime(*REPLY)) as http:
        answer = (await http.post(PATH, json={**HELLO, "model": "mine"})).json()
    assert answer.pop("id").startswith("chatcmpl-")
    assert isinstance(answer.pop("created"), int)
    assert answer.pop("system_fingerprint") == f"0-arithmetic-{info().model_digest[:12]}"
    assert answer == {
        "model": "mine",
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": " one two"},
                "logprobs": None,
                "finish_reason": "length",
            },
        ],
        "usage": {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8, "prompt_tokens_details": DETAILS},
    }


async def test_stream() -> None:
    """Role, texts without special tokens, reason, end mark; all under one id."""
    async with client(ScriptedRuntime(*REPLY)) as http:
        answer = await http.post(PATH, json={**HELLO, "stream": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    chunks = events(answer.text)
    assert [chunk["choices"] for chunk in chunks] == [
        [choice({"role": "assistant", "content": ""})],
        [choice({"content": " one"})],
        [choice({"content": " two"})],
        [choice({}, "length")],
    ]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1


async def test_no_chunk_without_text() -> None:
    """A token inside a character adds nothing yet, and the end of sequence never does."""
    pieces = (Delta((token(""),)), Delta((token("é"),)), last("é", token("</s>", 2, special=True)))
    async with client(ScriptedRuntime(*pieces)) as http:
        chunks = events((await http.post(PATH, json={**HELLO, "stream": True})).text)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas == [{"role": "assistant", "content": ""}, {"content": "é"}, {}]


async def test_error_after_the_first_token_is_an_event() -> None:
    """The status is sent already; the end mark still comes."""
    async with client(ScriptedRuntime(REPLY[0], NotReady("the worker is gone"))) as http:
        answer = await http.post(PATH, json={**HELLO, "stream": True})
    assert answer.status_code == 200
    error = {"message": "the worker is gone", "type": "server_error", "param": None, "code": "service_unavailable"}
    assert events(answer.text)[-1] == {"error": error, "error_type": "unavailable"}


@pytest.mark.parametrize(
    ("reason", "told"),
    [(FinishReason.LENGTH, "length"), (FinishReason.EOS_TOKEN, "stop"), (FinishReason.STOP_SEQUENCE, "stop")],
)
async def test_finish_reasons_have_openai_names(reason: FinishReason, told: str) -> None:
    """Whole and streamed alike."""
    async with client(ScriptedRuntime(last("a", token("a"), reason=reason))) as http:
        whole = (await http.post(PATH, json=HELLO)).json()
        chunks = events((await http.post(PATH, json={**HELLO, "stream": True})).text)
    assert whole["choices"][0]["finish_reason"] == told
    assert chunks[-1]["choices"][0]["finish_reason"] == told


async def test_defaults() -> None:
    """OpenAI samples at temperature 1 and fills the context."""
    assert await parsed() == GenerateRequest(
        messages=(Message("user", (TextPart("hello"),)),), sampling=SamplingParameters(do_sample=True)
    )


async def test_null_is_as_good_as_absent() -> None:
    """Clients write null for what they do not set."""
    names = (
        *("model", "n", "max_tokens", "max_completion_tokens", "temperature", "top_p", "seed", "stop", "stream"),
        *("frequency_penalty", "presence_penalty", "logit_bias", "stream_options", "logprobs", "top_logprobs"),
        *("response_format", "tools", "tool_choice", "functions", "of_a_later_version"),
    )
    assert await parsed(**dict.fromkeys(names)) == await parsed()


async def test_every_field_arrives() -> None:
    """As given, pictures by address among texts."""
    content = [
        {"type": "text", "text": "what is "},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
    ]
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": content}]
    request = await parsed(
        messages=messages,
        temperature=0.5,
        top_p=0.9,
        frequency_penalty=0.25,
        presence_penalty=-0.5,
        seed=3,
        max_tokens=20,
        stop=["x", "y"],
        logprobs=True,
        top_logprobs=4,
    )
    assert request == GenerateRequest(
        messages=(
            Message("system", (TextPart("be brief"),)),
            Message("user", (TextPart("what is "), ImageUrlPart("data:image/png;base64,AAAA"))),
        ),
        sampling=SamplingParameters(
            do_sample=True, temperature=0.5, top_p=0.9, frequency_penalty=0.25, presence_penalty=-0.5, seed=3
        ),
        stopping=StoppingParameters(max_new_tokens=20, stop=("x", "y")),
        top_n_tokens=4,
    )


async def test_temperature_0_is_greedy() -> None:
    """Whatever top_p says, which would turn sampling on."""
    assert (await parsed(temperature=0, top_p=0.5)).sampling == SamplingParameters()


async def test_one_stop_text_may_stand_alone() -> None:
    """A string is a list of one."""
    assert (await parsed(stop="x")).stopping.stop == ("x",)


async def test_the_newer_name_of_the_limit_wins() -> None:
    """As in OpenAI's reference, where the older one is deprecated."""
    assert (await parsed(max_tokens=5, max_completion_tokens=6)).stopping.max_new_tokens == 6


async def test_negative_seed() -> None:
    """OpenAI's seeds are signed; ours are what is left modulo 2**64."""
    assert (await parsed(seed=-1)).sampling.seed == 2**64 - 1


async def test_the_model_is_named_when_the_request_names_none() -> None:
    """What a client sees is never empty."""
    async with client(ScriptedRuntime(*REPLY)) as http:
        assert (await http.post(PATH, json=HELLO)).json()["model"] == "demo"


async def test_stop_text_is_cut_off() -> None:
    """Whole and streamed alike: the reply ends before it, also inside a token."""
    script = (Delta((token("one t"),)), last("one two three", token("wo three"), reason=FinishReason.STOP_SEQUENCE))
    async with client(ScriptedRuntime(*script)) as http:
        whole = (await http.post(PATH, json={**HELLO, "stop": "two"})).json()["choices"][0]
        chunks = events((await http.post(PATH, json={**HELLO, "stop": "two", "stream": True})).text)
    assert (whole["message"]["content"], whole["finish_reason"]) == ("one ", "stop")
    assert [chunk["choices"] for chunk in chunks[1:]] == [[choice({"content": "one "})], [choice({}, "stop")]]


async def test_stop_text_in_the_last_token_allowed() -> None:
    """The worker says `length`, and the client reads a reply that was stopped."""
    async with client(ScriptedRuntime(last("one two", token("one two")))) as http:
        whole = (await http.post(PATH, json={**HELLO, "stop": "two"})).json()["choices"][0]
        chunks = events((await http.post(PATH, json={**HELLO, "stop": "two", "stream": True})).text)
    assert whole["finish_reason"] == chunks[-1]["choices"][0]["finish_reason"] == "stop"


async def test_beginning_of_a_stop_text_that_ends_the_reply() -> None:
    """What was held back comes with the end."""
    async with client(ScriptedRuntime(Delta((token("one t"),)), last("one tw", token("w")))) as http:
        chunks = events((await http.post(PATH, json={**HELLO, "stop": "two", "stream": True})).text)
    assert [chunk["choices"][0]["delta"].get("content") for chunk in chunks[1:]] == ["one ", "tw", None]


CANDIDATES = (Candidate(7, "é", -0.5, False), Candidate(8, "x", float("-inf"), False))


async def test_logprobs() -> None:
    """Of each token with its bytes and rivals; the end of sequence is no text and not told."""
    script = (last("é", Token(7, "é", -0.5, False, CANDIDATES), token("</s>", 2, special=True)),)
    body = {**HELLO, "logprobs": True, "top_logprobs": 2}
    told = {"token": "é", "logprob": -0.5, "bytes": [0xC3, 0xA9]}
    never = {"token": "x", "logprob": -9999.0, "bytes": [0x78]}
    wanted = {"content": [{**told, "top_logprobs": [told, never]}], "refusal": None}
    async with client(ScriptedRuntime(*script)) as http:
        whole = (await http.post(PATH, json=body)).json()
        chunks = events((await http.post(PATH, json={**body, "stream": True})).text)
        without = (await http.post(PATH, json={**HELLO, "logprobs": True})).json()
    assert whole["choices"][0]["logprobs"] == wanted
    assert [chunk["choices"][0]["logprobs"] for chunk in chunks] == [None, wanted, None]
    assert without["choices"][0]["logprobs"]["content"][0]["top_logprobs"] == []


async def test_several_choices() -> None:
    """Each in its place; the prompt counts once."""
    scripts = ((last("one", token("one")),), (last("two", token("two")),))
    async with client(runtime := InTurn(*scripts)) as http:
        answer = (await http.post(PATH, json={**HELLO, "n": 2, "seed": 7})).json()
    assert [(each["index"], each["message"]["content"]) for each in answer["choices"]] == [(0, "one"), (1, "two")]
    assert answer["usage"] == {
        "prompt_tokens": 5,
        "completion_tokens": 6,
        "total_tokens": 11,
        "prompt_tokens_details": DETAILS,
    }
    first, second = (request.sampling.seed for request in runtime.requests)
    assert first == 7
    assert second not in (None, 7)


async def test_several_streamed_choices() -> None:
    """All chunks are of one answer; each choice has its beginning, texts and end."""
    scripts = ((Delta((token("a"),)), last("ab", token("b"))), (last("c", token("c")),))
    async with client(InTurn(*scripts)) as http:
        chunks = events((await http.post(PATH, json={**HELLO, "n": 2, "stream": True})).text)
    choices = [chunk["choices"][0] for chunk in chunks]
    for index, text in ((0, "ab"), (1, "c")):
        mine = [each for each in choices if each["index"] == index]
        assert mine[0]["delta"] == {"role": "assistant", "content": ""}
        assert "".join(each["delta"].get("content", "") for each in mine) == text
        assert mine[-1]["finish_reason"] == "length"
    assert len({chunk["id"] for chunk in chunks}) == 1


async def test_too_many_choices() -> None:
    """The limit is the operator's."""
    async with client(ScriptedRuntime(), max_client_batch_size=3) as http:
        answer = await http.post(PATH, json={**HELLO, "n": 4})
    assert answer.status_code == 422
    assert "asks for 4 replies" in answer.json()["error"]["message"]


async def test_choice_that_fails_before_the_first_token() -> None:
    """A real status, and the other streams are closed."""
    runtime = InTurn((NotReady("gone"),), (last("a", token("a")),))
    async with client(runtime) as http:
        answer = await http.post(PATH, json={**HELLO, "n": 2, "stream": True})
    assert answer.status_code == 503
    assert runtime.closed == 2


async def test_usage_of_a_stream() -> None:
    """A last chunk without choices; the others say that there is nothing to tell yet."""
    body = {**HELLO, "stream": True, "stream_options": {"include_usage": True}}
    async with client(ScriptedRuntime(*REPLY)) as http:
        chunks = events((await http.post(PATH, json=body)).text)
    assert (chunks[-1]["choices"], chunks[-1]["usage"]) == (
        [],
        {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8, "prompt_tokens_details": DETAILS},
    )
    assert all(chunk["usage"] is None for chunk in chunks[:-1])


async def test_cost_of_a_stream_is_the_first_choice_s() -> None:
    """As of a whole reply, though the second ends before it."""
    second = last("c", token("c"))
    assert second.completion is not None
    reused = replace(second, completion=replace(second.completion, cost=PromptCost(cached_tokens=5)))
    scripts = ((Delta((token("a"),)), last("ab", token("b"))), (reused,))
    body = {**HELLO, "n": 2, "stream": True, "stream_options": {"include_usage": True}}
    async with client(InTurn(*scripts)) as http:
        *chunks, end = events((await http.post(PATH, json=body)).text)
    ended = [chunk["choices"][0]["index"] for chunk in chunks if chunk["choices"][0]["finish_reason"]]
    assert ended == [1, 0]
    assert end["usage"]["prompt_tokens_details"] == DETAILS


@pytest.mark.parametrize(
    ("given", "grammar"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, Grammar(GrammarKind.JSON_SCHEMA, '{"type": "object"}')),
        (
            {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "array"}, "strict": True}},
            Grammar(GrammarKind.JSON_SCHEMA, '{"type": "array"}'),
        ),
        ({"type": "json", "value": {"type": "array"}}, Grammar(GrammarKind.JSON_SCHEMA, '{"type": "array"}')),
        ({"type": "regex", "value": "a+"}, Grammar(GrammarKind.REGEX, "a+")),
    ],
)
async def test_response_formats(given: object, grammar: Grammar | None) -> None:
    """OpenAI's three forms, and TGI's two."""
    assert (await parsed(response_format=given)).grammar == grammar


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"logit_bias": {"7": 1}}, "`logit_bias` is not served; leave it out"),
        ({"functions": [{"name": "f"}]}, "`functions` is not served; send them as `tools`"),
        ({"top_logprobs": 2}, "`top_logprobs` needs `logprobs` to be true"),
        ({"messages": [{"role": "user"}]}, "`messages.0`: a message needs `content`"),
        ({"max_completion_tokens": 0}, "`max_completion_tokens` must be at least 1, got 0"),
        ({"temperature": -1}, "`temperature` must be at least 0, got -1"),
        ({"top_p": 1.5}, "`top_p` must be at most 1, got 1.5"),
        ({"stop": 5}, "`stop`: send a text or a list of texts"),
        ({"stop": ["a", ""]}, '`stop.1` must have 1 or more characters, got ""'),
    ],
)
async def test_what_is_refused(fields: dict[str, object], text: str) -> None:
    """By name, and nothing is computed."""
    runtime = ScriptedRuntime()
    async with client(runtime) as http:
        answer = await http.post(PATH, json={**HELLO, **fields})
    assert (answer.status_code, answer.json()["error"]["message"]) == (422, text)
    assert not runtime.requests


async def test_models() -> None:
    """The one model there is."""
    async with client(ScriptedRuntime()) as http:
        answer = await http.get("/v1/models")
    model = {"id": "demo", "object": "model", "created": 0, "owned_by": "demo"}
    assert answer.json() == {"object": "list", "data": [model]}
