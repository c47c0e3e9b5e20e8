"""`huggingface_hub.InferenceClient` takes the server for TGI."""

from __future__ import annotations

import pytest
from support.pictures import Picture

hub = pytest.importorskip("huggingface_hub")

SECONDS = 30
HELLO = "[INST] Hello [/INST]"


@pytest.fixture
def client(url: str) -> hub.InferenceClient:
    """The client, at a server instead of a model."""
    return hub.InferenceClient(url, timeout=SECONDS)


def conversation(picture: Picture) -> list[dict[str, object]]:
    """The question about a picture."""
    parts = [
        {"type": "image_url", "image_url": {"url": picture.data_uri}},
        {"type": "text", "text": picture.question},
    ]
    return [{"role": "user", "content": parts}]


def test_text_generation(client: hub.InferenceClient, picture: Picture) -> None:
    """The text alone."""
    assert client.text_generation(picture.prompt, max_new_tokens=32).strip() == picture.answer


def test_text_generation_with_details(client: hub.InferenceClient, picture: Picture) -> None:
    """The tokens spell the text."""
    output = client.text_generation(picture.prompt, max_new_tokens=32, details=True)
    spelt = "".join(token.text for token in output.details.tokens if not token.special)
    assert output.generated_text.strip() == spelt.strip() == picture.answer
    assert output.details.finish_reason == "eos_token"
    assert output.details.generated_tokens == len(output.details.tokens)


def test_text_generation_stream(client: hub.InferenceClient, picture: Picture) -> None:
    """Text as it comes; the client does not leave out the token that ends it."""
    pieces = list(client.text_generation(picture.prompt, max_new_tokens=32, stream=True))
    assert len(pieces) > 1
    assert "".join(pieces).removesuffix("</s>").strip() == picture.answer


def test_text_generation_stream_with_details(client: hub.InferenceClient, picture: Picture) -> None:
    """Tokens as they come; the last has the whole text."""
    outputs = list(client.text_generation(picture.prompt, max_new_tokens=32, stream=True, details=True))
    assert outputs[-1].generated_text.strip() == picture.answer
    assert outputs[-1].details.finish_reason == "eos_token"
    assert outputs[-1].details.generated_tokens == len(outputs)
    assert outputs[-1].details.input_length > 100  # the picture's rows count


def test_text_generation_parameters(client: hub.InferenceClient) -> None:
    """A seeded reply repeats; a length ends it."""
    sampled = {"max_new_tokens": 16, "do_sample": True, "temperature": 3.0, "seed": 7, "details": True}
    first, again = (client.text_generation(HELLO, **sampled) for _ in range(2))
    assert first.generated_text == again.generated_text
    assert first.details.seed == 7
    assert client.text_generation(HELLO, max_new_tokens=1, details=True).details.finish_reason == "length"


def test_refused_text_generation(client: hub.InferenceClient) -> None:
    """TGI's validation error, by its name."""
    with pytest.raises(hub.errors.ValidationError, match="max_new_tokens"):
        client.text_generation(HELLO, max_new_tokens=100_000)


def test_refused_stream(client: hub.InferenceClient) -> None:
    """The same, before the first token."""
    with pytest.raises(hub.errors.ValidationError, match="max_new_tokens"):
        list(client.text_generation(HELLO, max_new_tokens=100_000, stream=True))


def test_chat_completion(client: hub.InferenceClient, picture: Picture) -> None:
    """The answer and its cost."""
    output = client.chat_completion(conversation(picture), max_tokens=32, temperature=0)
    (choice,) = output.choices
    assert choice.message.content.strip() == picture.answer
    assert (choice.message.role, choice.finish_reason) == ("assistant", "stop")
    assert output.usage.total_tokens == output.usage.prompt_tokens + output.usage.completion_tokens


def test_chat_completion_stream(client: hub.InferenceClient, picture: Picture) -> None:
    """The answer as it comes, then its cost."""
    chunks = list(
        client.chat_completion(
            conversation(picture), max_tokens=32, temperature=0, stream=True, stream_options={"include_usage": True}
        )
    )
    *told, last = chunks
    assert "".join(chunk.choices[0].delta.content or "" for chunk in told).strip() == picture.answer
    assert told[-1].choices[0].finish_reason == "stop"
    assert last.choices == []
    assert last.usage.completion_tokens > 0


@pytest.mark.anyio
async def test_async_client(url: str, picture: Picture) -> None:
    """The same answers, from the client of coroutines."""
    async with hub.AsyncInferenceClient(url, timeout=SECONDS) as client:
        text = await client.text_generation(picture.prompt, max_new_tokens=32)
        chat = await client.chat_completion(conversation(picture), max_tokens=32, temperature=0)
    assert text.strip() == chat.choices[0].message.content.strip() == picture.answer
