"""OpenAI's chat route."""

from __future__ import annotations

import json
from typing import Any

import pytest
from runtime.errors import NotReady
from runtime.runtime import (
    Delta,
    FinishReason,
    GenerateRequest,
    ImageUrlPart,
    Message,
    SamplingParameters,
    StoppingParameters,
    TextPart,
)
from support.asgi import client
from support.scripted import ScriptedRuntime, last, token

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


def events(text: str) -> list[dict[str, Any]]:
    """The chunks of a stream, which must end with the end mark."""
    *frames, done, rest = text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    return [json.loads(frame.removeprefix("data: ")) for frame in frames]


async def test_whole_reply() -> None:
    """One choice, and what it cost."""
    async with client(ScriptedRuntime(*REPLY)) as http:
        answer = (await http.post(PATH, json={**HELLO, "model": "mine"})).json()
    assert answer.pop("id").startswith("chatcmpl-")
    assert isinstance(answer.pop("created"), int)
    assert answer == {
        "model": "mine",
        "object": "chat.completion",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": " one two"}, "finish_reason": "length"},
        ],
        "usage": {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8},
    }


async def test_stream() -> None:
    """Role, texts without special tokens, reason, end mark; all under one id."""
    async with client(ScriptedRuntime(*REPLY)) as http:
        answer = await http.post(PATH, json={**HELLO, "stream": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    chunks = events(answer.text)
    assert [chunk["choices"] for chunk in chunks] == [
        [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}],
        [{"index": 0, "delta": {"content": " one"}, "finish_reason": None}],
        [{"index": 0, "delta": {"content": " two"}, "finish_reason": None}],
        [{"index": 0, "delta": {}, "finish_reason": "length"}],
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
    assert events(answer.text)[-1] == {"error": "the worker is gone", "error_type": "unavailable"}


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
    names = ("max_tokens", "max_completion_tokens", "temperature", "top_p", "seed", "stop", "stream")
    assert await parsed(**dict.fromkeys(names)) == await parsed()


async def test_every_field_arrives() -> None:
    """As given, pictures by address among texts."""
    content = [
        {"type": "text", "text": "what is "},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
    ]
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": content}]
    request = await parsed(messages=messages, temperature=0.5, top_p=0.9, seed=3, max_tokens=20, stop=["x", "y"])
    assert request == GenerateRequest(
        messages=(
            Message("system", (TextPart("be brief"),)),
            Message("user", (TextPart("what is "), ImageUrlPart("data:image/png;base64,AAAA"))),
        ),
        sampling=SamplingParameters(do_sample=True, temperature=0.5, top_p=0.9, seed=3),
        stopping=StoppingParameters(max_new_tokens=20, stop=("x", "y")),
    )


async def test_temperature_0_is_greedy() -> None:
    """Whatever top_p says, which would turn sampling on."""
    assert (await parsed(temperature=0, top_p=0.5)).sampling == SamplingParameters()


async def test_one_stop_text_may_stand_alone() -> None:
    """A string is a list of one."""
    assert (await parsed(stop="x")).stopping.stop == ("x",)


async def test_the_newer_name_of_the_limit_wins() -> None:
    """Also when it is 0, which the runtime then refuses; it must not mean that there is no limit."""
    assert (await parsed(max_tokens=5, max_completion_tokens=6)).stopping.max_new_tokens == 6
    assert (await parsed(max_completion_tokens=0)).stopping.max_new_tokens == 0
