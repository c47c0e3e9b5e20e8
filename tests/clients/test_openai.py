"""OpenAI's own client, `openai`, gets what it gets from OpenAI."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from runtime.errors import NotReady, Overloaded
from runtime.runtime import Delta
from support import asgi, scripted
from support.pictures import Picture

openai = pytest.importorskip("openai")

SECONDS = 30
MODEL = "demo"
GREEDY = {"model": MODEL, "temperature": 0, "max_tokens": 32}
HELLO = [{"role": "user", "content": "Hello"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather at a place.",
        "parameters": {
            "type": "object",
            "properties": {"place": {"enum": ["Paris", "Oslo"]}, "celsius": {"type": "boolean"}},
            "required": ["place", "celsius"],
            "additionalProperties": False,
        },
    },
}
FORCED = {"type": "function", "function": {"name": "weather"}}


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    """The client; it does not try again, so that a failure is seen."""
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", timeout=SECONDS, max_retries=0) as client:
        yield client


def conversation(picture: Picture) -> list[dict[str, Any]]:
    """The question about a picture."""
    parts = [
        {"type": "text", "text": picture.question},
        {"type": "image_url", "image_url": {"url": picture.data_uri}},
    ]
    return [{"role": "user", "content": parts}]


@pytest.mark.proves("GET /v1/models")
def test_models(client: openai.OpenAI) -> None:
    """The one model."""
    assert [model.id for model in client.models.list()] == [MODEL]


@pytest.mark.proves("GET /v1/models/{model:path}")
def test_model(client: openai.OpenAI) -> None:
    """By its name."""
    assert client.models.retrieve(MODEL).id == MODEL


@pytest.mark.proves("POST /v1/chat/completions")
def test_chat(client: openai.OpenAI, picture: Picture) -> None:
    """The answer and its cost."""
    completion = client.chat.completions.create(**GREEDY, messages=conversation(picture))
    (choice,) = completion.choices
    assert choice.message.content.strip() == picture.answer
    assert (choice.message.role, choice.finish_reason) == ("assistant", "stop")
    usage = completion.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.prompt_tokens > 100  # the picture's rows count
    details = usage.prompt_tokens_details
    assert details.cached_tokens == 0
    assert 100 < details.image_tokens < usage.prompt_tokens


def test_chat_stream(client: openai.OpenAI, picture: Picture) -> None:
    """The answer as it comes, then its cost in a chunk without choices."""
    chunks = list(
        client.chat.completions.create(
            **GREEDY, messages=conversation(picture), stream=True, stream_options={"include_usage": True}
        )
    )
    *told, last = chunks
    assert "".join(chunk.choices[0].delta.content or "" for chunk in told).strip() == picture.answer
    assert told[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in told] == [None] * (len(told) - 1) + ["stop"]
    assert all(chunk.usage is None for chunk in told)
    assert last.choices == []
    assert last.usage.completion_tokens > 0
    assert last.usage.prompt_tokens_details.image_tiles > 1
    assert len({chunk.id for chunk in chunks}) == 1


def test_chat_stream_helper(client: openai.OpenAI, picture: Picture) -> None:
    """The helper puts the chunks together to the same answer."""
    with client.chat.completions.stream(**GREEDY, messages=conversation(picture)) as stream:
        completion = stream.get_final_completion()
    assert completion.choices[0].message.content.strip() == picture.answer


@pytest.mark.anyio
async def test_async_chat_stream(url: str, picture: Picture) -> None:
    """The same answer, from the client of coroutines."""
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", timeout=SECONDS, max_retries=0) as client:
        stream = await client.chat.completions.create(**GREEDY, messages=conversation(picture), stream=True)
        told = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert "".join(told).strip() == picture.answer


def test_stop(client: openai.OpenAI, picture: Picture) -> None:
    """The reply ends before the text, whole or in a stream."""
    kept, _, stop = picture.answer.rpartition(" ")
    asked = {**GREEDY, "messages": conversation(picture), "stop": [stop]}
    (choice,) = client.chat.completions.create(**asked).choices
    chunks = list(client.chat.completions.create(**asked, stream=True))
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert choice.message.content.strip() == streamed.strip() == kept
    assert choice.finish_reason == chunks[-1].choices[0].finish_reason == "stop"


def test_length(client: openai.OpenAI) -> None:
    """By the newer name of the limit."""
    completion = client.chat.completions.create(model=MODEL, messages=HELLO, max_completion_tokens=1)
    assert completion.choices[0].finish_reason == "length"
    assert completion.usage.completion_tokens == 1


def test_n(client: openai.OpenAI) -> None:
    """Two different replies, repeated by the seed; the model is unsure of what it knows no answer to."""
    unsure = [{"role": "user", "content": "Tell me a number."}]
    asked = {"model": MODEL, "messages": unsure, "max_tokens": 16, "n": 2, "seed": 7, "temperature": 2.0}
    completion, again = (client.chat.completions.create(**asked) for _ in range(2))
    texts = [choice.message.content for choice in completion.choices]
    assert [choice.index for choice in completion.choices] == [0, 1]
    assert texts == [choice.message.content for choice in again.choices]
    assert texts[0] != texts[1]


def test_n_in_a_stream(client: openai.OpenAI) -> None:
    """Every choice comes to its end."""
    asked = {"model": MODEL, "messages": HELLO, "max_tokens": 4, "n": 2, "temperature": 2.0, "stream": True}
    choices = [chunk.choices[0] for chunk in client.chat.completions.create(**asked)]
    assert sorted(choice.index for choice in choices if choice.finish_reason) == [0, 1]


def test_logprobs(client: openai.OpenAI, picture: Picture) -> None:
    """A greedy reply's tokens spell it, and each is as probable as the first of its candidates."""
    completion = client.chat.completions.create(**GREEDY, messages=conversation(picture), logprobs=True, top_logprobs=3)
    (choice,) = completion.choices
    spelt = b"".join(bytes(token.bytes) for token in choice.logprobs.content).decode()
    assert choice.message.content.strip() in spelt
    for token in choice.logprobs.content:
        assert len(token.top_logprobs) == 3
        assert token.top_logprobs[0].logprob == token.logprob <= 0


def test_candidates_are_spelt_as_tokens(client: openai.OpenAI) -> None:
    """The first of a greedy reply's candidates is the token itself."""
    (choice,) = client.chat.completions.create(**GREEDY, messages=HELLO, logprobs=True, top_logprobs=1).choices
    told = [(token.token, token.top_logprobs[0].token) for token in choice.logprobs.content]
    assert [candidate for _, candidate in told] == [token for token, _ in told]


def test_forced_tool(client: openai.OpenAI) -> None:
    """A call whose arguments follow the function's schema."""
    pytest.importorskip("llguidance")
    completion = client.chat.completions.create(
        model=MODEL, messages=HELLO, tools=[WEATHER], tool_choice=FORCED, max_tokens=96
    )
    (choice,) = completion.choices
    (call,) = choice.message.tool_calls
    assert (call.type, call.function.name, choice.message.content) == ("function", "weather", None)
    arguments = json.loads(call.function.arguments)
    assert arguments["place"] in {"Paris", "Oslo"}
    assert isinstance(arguments["celsius"], bool)
    assert choice.finish_reason == "tool_calls"


def test_forced_tool_in_a_stream(client: openai.OpenAI) -> None:
    """The helper puts the call together."""
    pytest.importorskip("llguidance")
    with client.chat.completions.stream(
        model=MODEL, messages=HELLO, tools=[WEATHER], tool_choice="required", max_tokens=96
    ) as stream:
        (choice,) = stream.get_final_completion().choices
    (call,) = choice.message.tool_calls
    assert call.function.name == "weather"
    assert set(json.loads(call.function.arguments)) == {"place", "celsius"}
    assert choice.finish_reason == "tool_calls"


def test_answer_of_a_tool(client: openai.OpenAI) -> None:
    """A conversation that has a call in it goes on."""
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"place": "Oslo"}'}}
    messages = [
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "cold"},
    ]
    completion = client.chat.completions.create(
        model=MODEL, messages=messages, tools=[WEATHER], tool_choice="none", max_tokens=4
    )
    assert completion.choices[0].message.tool_calls is None


def test_json_schema(client: openai.OpenAI) -> None:
    """A reply of the schema."""
    pytest.importorskip("llguidance")
    schema = WEATHER["function"]["parameters"]
    response_format = {"type": "json_schema", "json_schema": {"name": "weather", "schema": schema, "strict": True}}
    completion = client.chat.completions.create(
        model=MODEL, messages=HELLO, response_format=response_format, max_tokens=96
    )
    answer = json.loads(completion.choices[0].message.content)
    assert answer["place"] in {"Paris", "Oslo"}
    assert isinstance(answer["celsius"], bool)


@pytest.mark.proves("POST /v1/completions")
def test_completions(client: openai.OpenAI, picture: Picture) -> None:
    """A prompt with the picture in markdown, whole and in a stream."""
    asked = {**GREEDY, "prompt": picture.prompt}
    completion = client.completions.create(**asked)
    chunks = list(client.completions.create(**asked, stream=True))
    streamed = "".join(chunk.choices[0].text for chunk in chunks)
    assert completion.choices[0].text.strip() == streamed.strip() == picture.answer
    assert completion.choices[0].finish_reason == chunks[-1].choices[0].finish_reason == "stop"
    assert completion.usage.completion_tokens > 0


def test_completions_of_several_prompts(client: openai.OpenAI) -> None:
    """A choice each, in order."""
    completion = client.completions.create(**GREEDY, prompt=["[INST] Hello [/INST]"] * 2)
    assert [choice.index for choice in completion.choices] == [0, 1]
    assert completion.choices[0].text == completion.choices[1].text


@pytest.mark.parametrize(
    "wrong",
    [{"frequency_penalty": 9}, {"n": 0}, {"temperature": -1}, {"top_logprobs": 3}, {"messages": []}],
    ids=lambda wrong: next(iter(wrong)),
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_refused(client: openai.OpenAI, wrong: dict[str, Any], stream: bool) -> None:
    """The error of its status; its text and its parameter name the field."""
    with pytest.raises(openai.UnprocessableEntityError) as refused:
        client.chat.completions.create(**{"model": MODEL, "messages": HELLO, "stream": stream, **wrong})
    field = next(iter(wrong))
    assert f"`{field}`" in refused.value.message
    assert (refused.value.param, refused.value.type) == (field, "invalid_request_error")


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_too_many_tokens_are_refused_by_their_name(client: openai.OpenAI, name: str) -> None:
    """The name that was sent, and the code by which libraries know that a conversation became too long."""
    with pytest.raises(openai.UnprocessableEntityError) as refused:
        client.chat.completions.create(model=MODEL, messages=HELLO, **{name: 100_000})
    assert f"`{name}`" in refused.value.body["message"]
    assert "max_new_tokens" not in str(refused.value)
    assert refused.value.code == "context_length_exceeded"


def test_refusal_shows_its_text(client: openai.OpenAI) -> None:
    """In the error's own words, without looking at its body."""
    with pytest.raises(openai.UnprocessableEntityError, match="temperature"):
        client.chat.completions.create(model=MODEL, messages=HELLO, temperature=-1)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_refused_picture(client: openai.OpenAI, stream: bool) -> None:
    """What is no picture is refused like a wrong field, before a stream begins."""
    parts = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]
    with pytest.raises(openai.UnprocessableEntityError, match="picture 0: ") as refused:
        client.chat.completions.create(**GREEDY, messages=[{"role": "user", "content": parts}], stream=stream)
    assert (refused.value.code, refused.value.param) == ("invalid_image", "messages")


@pytest.mark.anyio
async def test_error_within_a_stream() -> None:
    """What came before is read, and the error's own text is told."""
    runtime = scripted.ScriptedRuntime(Delta((scripted.token("one"),)), NotReady("the worker is gone"))
    async with (
        asgi.client(runtime) as http,
        openai.AsyncOpenAI(base_url="http://server/v1", api_key="none", http_client=http) as client,
    ):
        stream = await client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
        chunks = aiter(stream)
        read = [(await anext(chunks)).choices[0].delta.content for _ in range(2)]
        with pytest.raises(openai.APIError, match="the worker is gone"):
            await anext(chunks)
    assert read == ["", "one"]


@pytest.mark.anyio
async def test_retry_after(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that is refused waits as long as it is told to, and is answered then."""
    runtime = scripted.InTurn((Overloaded("full", retry_after=7),), (scripted.last("one", scripted.token("one")),))
    waited = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr("anyio.sleep", sleep)
    async with (
        asgi.client(runtime) as http,
        openai.AsyncOpenAI(base_url="http://server/v1", api_key="none", http_client=http, max_retries=1) as client,
    ):
        completion = await client.chat.completions.create(model=MODEL, messages=HELLO)
    assert (completion.choices[0].message.content, waited) == ("one", [7])


def test_unknown_route(client: openai.OpenAI) -> None:
    """An API that we do not have is not found."""
    with pytest.raises(openai.NotFoundError, match="there is no /v1/embeddings here"):
        client.embeddings.create(model=MODEL, input="Hello")
