"""TGI's own client, `text-generation`, gets what it got from TGI."""

from __future__ import annotations

import json

import pytest
from support.pictures import Picture

text_generation = pytest.importorskip("text_generation")
errors = pytest.importorskip("text_generation.errors")
types = pytest.importorskip("text_generation.types")

# The client is of pydantic's first version, and calls what the second deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:The `dict` method is deprecated", "ignore:Support for class-based")

SECONDS = 30
HELLO = "[INST] Hello [/INST]"


@pytest.fixture
def client(url: str) -> text_generation.Client:
    """The client, without threads."""
    return text_generation.Client(url, timeout=SECONDS)


@pytest.fixture
def async_client(url: str) -> text_generation.AsyncClient:
    """The client of coroutines."""
    return text_generation.AsyncClient(url, timeout=SECONDS)


def test_generate(client: text_generation.Client, picture: Picture) -> None:
    """The answer, and details that agree with it."""
    response = client.generate(picture.prompt, max_new_tokens=32)
    assert response.generated_text.strip() == picture.answer
    assert response.details.finish_reason == types.FinishReason.EndOfSequenceToken
    assert response.details.generated_tokens == len(response.details.tokens) <= 32
    assert response.details.seed is None
    assert response.details.prefill == []
    spelt = "".join(token.text for token in response.details.tokens if not token.special)
    assert spelt.strip() == picture.answer


def test_generate_stream(client: text_generation.Client, picture: Picture) -> None:
    """Tokens spell the answer; the last event has it whole."""
    responses = list(client.generate_stream(picture.prompt, max_new_tokens=32))
    spelt = "".join(response.token.text for response in responses if not response.token.special)
    assert spelt.strip() == responses[-1].generated_text.strip() == picture.answer
    assert all(response.generated_text is None and response.details is None for response in responses[:-1])
    assert responses[-1].details.finish_reason == types.FinishReason.EndOfSequenceToken
    assert responses[-1].details.generated_tokens == len(responses)


@pytest.mark.anyio
async def test_async_generate(async_client: text_generation.AsyncClient, picture: Picture) -> None:
    """The same answer."""
    response = await async_client.generate(picture.prompt, max_new_tokens=32)
    assert response.generated_text.strip() == picture.answer


@pytest.mark.anyio
async def test_async_generate_stream(async_client: text_generation.AsyncClient, picture: Picture) -> None:
    """The same tokens."""
    responses = [response async for response in async_client.generate_stream(picture.prompt, max_new_tokens=32)]
    assert responses[-1].generated_text.strip() == picture.answer


def test_prompt_tokens_on_request(client: text_generation.Client) -> None:
    """Every token of the prompt; the first has no probability."""
    prefill = client.generate(HELLO, max_new_tokens=1, decoder_input_details=True).details.prefill
    assert prefill[0].logprob is None
    assert all(token.logprob <= 0 for token in prefill[1:])
    assert "Hello" in "".join(token.text for token in prefill)


def test_seed_repeats_a_sampled_reply(client: text_generation.Client) -> None:
    """And is told back; another seed says something else."""
    first, again, other = (
        client.generate(HELLO, max_new_tokens=16, do_sample=True, temperature=3.0, seed=seed) for seed in (7, 7, 8)
    )
    assert first.details.seed == 7
    assert first.generated_text == again.generated_text != other.generated_text


def test_full_text_begins_with_the_prompt(client: text_generation.Client) -> None:
    """When asked for."""
    response = client.generate(HELLO, max_new_tokens=4, return_full_text=True)
    assert response.generated_text.startswith(HELLO)


def test_stop_sequence_ends_the_reply(client: text_generation.Client, picture: Picture) -> None:
    """Its text is the end of the reply, as in TGI."""
    stop = picture.answer.split()[-1]
    response = client.generate(picture.prompt, max_new_tokens=32, stop_sequences=[stop])
    assert response.details.finish_reason == types.FinishReason.StopSequence
    assert response.generated_text.endswith(stop)
    assert response.generated_text.strip() == picture.answer


def test_length_ends_the_reply(client: text_generation.Client) -> None:
    """After `max_new_tokens`."""
    details = client.generate(HELLO, max_new_tokens=1).details
    assert (details.finish_reason, details.generated_tokens) == (types.FinishReason.Length, 1)


def test_best_of_has_the_other_sequence(client: text_generation.Client) -> None:
    """Which is not more probable than the one chosen."""
    details = client.generate(HELLO, max_new_tokens=4, do_sample=True, temperature=2.0, best_of=2).details

    def mean(tokens: list[types.Token]) -> float:
        return sum(token.logprob for token in tokens) / len(tokens)

    (other,) = details.best_of_sequences
    assert mean(details.tokens) >= mean(other.tokens)


def test_top_tokens(client: text_generation.Client) -> None:
    """The first of a greedy reply's candidates is the token."""
    details = client.generate(HELLO, max_new_tokens=2, top_n_tokens=3).details
    assert [len(candidates) for candidates in details.top_tokens] == [3, 3]
    assert [candidates[0].id for candidates in details.top_tokens] == [token.id for token in details.tokens]


def test_grammar(client: text_generation.Client) -> None:
    """A reply of the JSON schema."""
    pytest.importorskip("llguidance")
    schema = {
        "type": "object",
        "properties": {"red": {"type": "boolean"}},
        "required": ["red"],
        "additionalProperties": False,
    }
    grammar = types.Grammar(type=types.GrammarType.Json, value=schema)
    response = client.generate(HELLO, max_new_tokens=64, grammar=grammar)
    assert set(json.loads(response.generated_text)) == {"red"}


def test_refusal_is_a_validation_error(client: text_generation.Client) -> None:
    """Of what only the server knows: the context."""
    with pytest.raises(errors.ValidationError, match="max_new_tokens"):
        client.generate(HELLO, max_new_tokens=100_000)


def test_refused_best_of(client: text_generation.Client) -> None:
    """More replies than the operator allows."""
    with pytest.raises(errors.ValidationError, match="best_of"):
        client.generate(HELLO, do_sample=True, best_of=100)


def test_refused_stream(client: text_generation.Client) -> None:
    """The same error before the first token."""
    with pytest.raises(errors.ValidationError, match="max_new_tokens"):
        next(client.generate_stream(HELLO, max_new_tokens=100_000))


@pytest.mark.anyio
async def test_async_refusals(async_client: text_generation.AsyncClient) -> None:
    """The same errors."""
    with pytest.raises(errors.ValidationError, match="max_new_tokens"):
        await async_client.generate(HELLO, max_new_tokens=100_000)
    with pytest.raises(errors.ValidationError, match="max_new_tokens"):
        await anext(async_client.generate_stream(HELLO, max_new_tokens=100_000))


def test_chat(client: text_generation.Client) -> None:
    """Of text: this client's messages have no pictures, and it cannot read a stream that has no tool calls."""
    message = types.Message(role="user", content="Hello")
    complete = client.chat([message], max_tokens=8)
    assert complete.choices[0].message.role == "assistant"
    assert 1 <= complete.usage["completion_tokens"] <= 8
