"""/v1/completions."""

from __future__ import annotations

from typing import Any

import pytest
from runtime.runtime import (
    Candidate,
    Delta,
    GenerateRequest,
    ImageUrlPart,
    PrefillToken,
    SamplingParameters,
    StoppingParameters,
    TextPart,
    Token,
    TokensPart,
)
from support.asgi import client, events
from support.scripted import DETAILS, InTurn, ScriptedRuntime, last, token

pytestmark = pytest.mark.anyio

PATH = "/v1/completions"
REPLY = (Delta((token(" one"),)), last(" one two", token(" two", 8), token("</s>", 2, special=True)))


async def parsed(**fields: object) -> list[GenerateRequest]:
    """What the runtime is asked when these fields are posted."""
    runtime = ScriptedRuntime(*REPLY)
    async with client(runtime) as http:
        answer = await http.post(PATH, json={"prompt": "a", **fields})
    assert answer.status_code == 200, answer.text
    return runtime.requests


async def test_whole_reply() -> None:
    """One choice, and what it cost."""
    async with client(ScriptedRuntime(*REPLY)) as http:
        answer = (await http.post(PATH, json={"prompt": "a", "model": "mine"})).json()
    assert answer.pop("id").startswith("cmpl-")
    assert isinstance(answer.pop("created"), int)
    assert answer.pop("system_fingerprint")
    assert answer == {
        "model": "mine",
        "object": "text_completion",
        "choices": [{"index": 0, "text": " one two", "logprobs": None, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8, "prompt_tokens_details": DETAILS},
    }


async def test_stream() -> None:
    """A chunk for each piece of text; the last has the reason."""
    async with client(ScriptedRuntime(*REPLY)) as http:
        chunks = events((await http.post(PATH, json={"prompt": "a", "stream": True})).text)
    assert [chunk["choices"] for chunk in chunks] == [
        [{"index": 0, "text": " one", "logprobs": None, "finish_reason": None}],
        [{"index": 0, "text": " two", "logprobs": None, "finish_reason": "length"}],
    ]
    assert {chunk["object"] for chunk in chunks} == {"text_completion"}


async def test_defaults() -> None:
    """It samples, and 100 tokens are generated, as in TGI; null is as good as absent."""
    wanted = GenerateRequest((TextPart("a"),), sampling=SamplingParameters(do_sample=True))
    (request,) = await parsed()
    assert request == GenerateRequest(
        wanted.parts, sampling=wanted.sampling, stopping=StoppingParameters(max_new_tokens=100)
    )
    assert await parsed(**dict.fromkeys(("max_tokens", "echo", "logprobs", "suffix", "best_of", "n"))) == [request]


@pytest.mark.parametrize(
    ("prompt", "parts"),
    [
        ("a", [(TextPart("a"),)]),
        (["a", "b"], [(TextPart("a"),), (TextPart("b"),)]),
        ([1, 2], [(TokensPart((1, 2)),)]),
        ([1.0, 2], [(TokensPart((1, 2)),)]),
        ([[1, 2], [3]], [(TokensPart((1, 2)),), (TokensPart((3,)),)]),
        ("![](data:x)a", [(ImageUrlPart("data:x"), TextPart("a"))]),
    ],
)
async def test_prompts(prompt: object, parts: list[Any]) -> None:
    """Texts or token ids, one or several; pictures as on TGI's routes."""
    assert [request.parts for request in await parsed(prompt=prompt)] == parts


@pytest.mark.parametrize("prompt", [[], [[]], "", ["a", ""], [1, "a"], 5, None, [True], {"a": 1}, [1.5], [[["a"]]]])
async def test_no_prompt(prompt: object) -> None:
    """Anything else is refused, and named."""
    async with client(ScriptedRuntime()) as http:
        answer = await http.post(PATH, json={"prompt": prompt})
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert error["message"].startswith("`prompt`")
    assert error["param"] == "prompt"


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"suffix": "b"}, "`suffix` is not served"),
        ({"best_of": 2}, "`best_of` must be absent or equal `n`, got 2"),
        ({"logit_bias": {"1": 1}}, "`logit_bias` is not served"),
        ({"prompt": ["a"] * 5}, "asks for 5 replies"),
        ({"prompt": ["a"] * 2, "n": 3}, "asks for 6 replies"),
        ({"logprobs": 6}, "`logprobs`"),
    ],
)
async def test_what_is_refused(fields: dict[str, object], named: str) -> None:
    """By name, and nothing is computed."""
    runtime = ScriptedRuntime()
    async with client(runtime) as http:
        answer = await http.post(PATH, json={"prompt": "a", **fields})
    assert answer.status_code == 422
    assert named in answer.json()["error"]["message"]
    assert not runtime.requests


async def test_several_prompts() -> None:
    """`n` choices for each, in order; each prompt counts once."""
    scripts = tuple((last(text, token(text)),) for text in "wxyz")
    async with client(InTurn(*scripts)) as http:
        answer = (await http.post(PATH, json={"prompt": ["a", "b"], "n": 2})).json()
    assert [(each["index"], each["text"]) for each in answer["choices"]] == [(0, "w"), (1, "x"), (2, "y"), (3, "z")]
    assert answer["usage"] == {
        "prompt_tokens": 10,
        "completion_tokens": 12,
        "total_tokens": 22,
        "prompt_tokens_details": {name: 2 * count for name, count in DETAILS.items()},
    }


async def test_several_streamed_prompts() -> None:
    """Chunks are told apart by the index of their choice; the usage is of all."""
    scripts = ((Delta((token("a"),)), last("ab", token("b"))), (last("c", token("c")),))
    body = {"prompt": ["x", "y"], "stream": True, "stream_options": {"include_usage": True}}
    async with client(InTurn(*scripts)) as http:
        *chunks, end = events((await http.post(PATH, json=body)).text)
    choices = [chunk["choices"][0] for chunk in chunks]
    assert "".join(each["text"] for each in choices if each["index"] == 0) == "ab"
    assert "".join(each["text"] for each in choices if each["index"] == 1) == "c"
    assert (end["choices"], end["usage"]["prompt_tokens"]) == ([], 10)


async def test_stop_text_is_cut_off() -> None:
    """Whole and streamed alike."""
    body = {"prompt": "a", "stop": ["tw"]}
    async with client(ScriptedRuntime(*REPLY)) as http:
        whole = (await http.post(PATH, json=body)).json()["choices"][0]
        chunks = events((await http.post(PATH, json={**body, "stream": True})).text)
    assert (whole["text"], whole["finish_reason"]) == (" one ", "stop")
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == " one "
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


async def test_logprobs() -> None:
    """Parallel lists; offsets count the characters before each token."""
    rivals = (Candidate(7, "ab", -0.5, False), Candidate(8, "x", -2.0, False))
    script = (last("abc", Token(7, "ab", -0.5, False, rivals), Token(9, "c", -0.25, False)),)
    async with client(runtime := ScriptedRuntime(*script)) as http:
        answer = (await http.post(PATH, json={"prompt": "a", "logprobs": 2})).json()
        without = (await http.post(PATH, json={"prompt": "a", "logprobs": 0})).json()
    assert answer["choices"][0]["logprobs"] == {
        "tokens": ["ab", "c"],
        "token_logprobs": [-0.5, -0.25],
        "top_logprobs": [{"ab": -0.5, "x": -2.0}, {}],
        "text_offset": [0, 2],
    }
    assert without["choices"][0]["logprobs"]["top_logprobs"] is None
    assert [request.top_n_tokens for request in runtime.requests] == [2, 0]


async def test_offsets_of_a_stream() -> None:
    """They go on from chunk to chunk."""
    async with client(ScriptedRuntime(*REPLY)) as http:
        chunks = events((await http.post(PATH, json={"prompt": "a", "logprobs": 1, "stream": True})).text)
    assert [chunk["choices"][0]["logprobs"]["text_offset"] for chunk in chunks] == [[0], [4]]


async def test_echo() -> None:
    """The prompt first, and with logprobs its tokens; nothing precedes the first."""
    prefill = (PrefillToken(1, "", None), PrefillToken(9, "ab", -0.125))
    script = (Delta((token("c"),), prefill=prefill), last("c", token("")))
    body = {"prompt": "ab", "echo": True, "logprobs": 0}
    async with client(runtime := ScriptedRuntime(*script)) as http:
        whole = (await http.post(PATH, json=body)).json()["choices"][0]
        chunks = events((await http.post(PATH, json={**body, "stream": True})).text)
    assert whole["text"] == "abc"
    assert whole["logprobs"]["tokens"] == ["", "ab", "c", ""]
    assert whole["logprobs"]["token_logprobs"] == [None, -0.125, -0.5, -0.5]
    assert whole["logprobs"]["text_offset"] == [0, 0, 2, 3]
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == "abc"
    offsets = [each for chunk in chunks for each in chunk["choices"][0]["logprobs"]["text_offset"]]
    assert offsets == whole["logprobs"]["text_offset"]
    assert all(request.prompt_logprobs for request in runtime.requests)


async def test_echo_of_token_ids() -> None:
    """Their text, as `tokenize` tells it; here that of `support.scripted.TOKENS`."""
    async with client(ScriptedRuntime(last("c", token("c")))) as http:
        answer = (await http.post(PATH, json={"prompt": [1, 7, 8], "echo": True})).json()
    assert answer["choices"][0]["text"] == "<s>one twoc"
