"""HTTP over a whole worker: the demo model's tokenizer and template, engine and detokenizer, arithmetic backend."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from runtime import demo as demo_model
from runtime.local import LocalRuntime
from runtime.prompt.markdown import split_markdown
from runtime.runtime import GenerateRequest, Message, TextPart
from support.arithmetic import expected
from support.asgi import client
from support.rpc import connected
from support.serving import TOKENIZER

pytestmark = pytest.mark.anyio

JSON = {"content-type": "application/json"}
CHAT = "/v1/chat/completions"
HELLO = {"messages": [{"role": "user", "content": "hello"}]}


async def test_tgi_reply(demo: LocalRuntime) -> None:
    """Real tokenizer, engine and detokenizer: the tokens follow the backend's rule, the texts are theirs."""
    ids = expected(TOKENIZER.encode("What is this?", add_special_tokens=True), 4)
    body = {"inputs": "What is this?", "parameters": {"max_new_tokens": 4, "details": True}}
    async with client(demo) as http:
        whole = (await http.post("/generate", json=body)).json()
        stream = (await http.post("/generate_stream", json=body)).text
    events = [json.loads(line.removeprefix("data: ")) for line in stream.split("\n\n")[:-1]]
    assert [each["id"] for each in whole["details"]["tokens"]] == ids
    assert [event["token"]["id"] for event in events] == ids
    assert [event["index"] for event in events] == [1, 2, 3, 4]
    assert whole["generated_text"].strip() == TOKENIZER.decode(ids, skip_special_tokens=True).strip()
    assert events[-1]["generated_text"] == whole["generated_text"]
    assert "".join(event["token"]["text"] for event in events) == whole["generated_text"]


async def test_picture(demo: LocalRuntime) -> None:
    """A picture in markdown counts with its placeholders, and the backend is given its size."""
    picture = (demo_model.MODEL.parent / "pictures" / "tall.png").read_bytes()
    width, height = Image.open(io.BytesIO(picture)).size
    inputs = f"![](data:image/png;base64,{base64.b64encode(picture).decode()})What?"
    prompt = [each.id for each in (await demo.tokenize(GenerateRequest(parts=split_markdown(inputs)))).tokens]
    body = {"inputs": inputs, "parameters": {"max_new_tokens": 3, "details": True}}
    async with client(demo) as http:
        frames = (await http.post("/generate_stream", json=body)).text.split("\n\n")[:-1]
    events = [json.loads(frame.removeprefix("data: ")) for frame in frames]
    assert [event["token"]["id"] for event in events] == expected(prompt, 3, [(height, width)])
    assert events[-1]["details"]["input_length"] == len(prompt)


async def test_cost_of_pictures(demo: LocalRuntime, tmp_path: Path) -> None:
    """Tiles and tokens worked out by hand, told alike by every route, with a gateway between.

    A tile is 84 x 84 pixels and makes 7 x 7 features. A picture of 179 x 161 keeps most of itself on 2 x 2 tiles; with
    the base tile they are 5. Of the 14 x 14 features of the canvas it covers 161 * 14 / 179 = 12.6 rows: one is left
    out above and one below. Each of the 12 others ends with a newline: 7 * 7 + 12 * (14 + 1) = 229 tokens. One of
    200 x 40 keeps most on 3 x 1 tiles and covers 40 * 21 / 200 = 4.2 of 7 rows: 7 * 7 + 5 * (21 + 1) = 159 tokens.
    """
    urls = [data_uri((demo_model.PICTURES / "three-shapes.png").read_bytes()), data_uri(blank(200, 40))]
    inputs = "".join(f"![]({url})" for url in urls) + "What?"
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    chat = {"messages": [{"role": "user", "content": [*parts, {"type": "text", "text": "What?"}]}], "max_tokens": 2}
    options = {"stream": True, "stream_options": {"include_usage": True}}
    body = {"inputs": inputs, "parameters": {"max_new_tokens": 2, "details": True}}
    async with connected(demo, tmp_path) as connection, client(connection.remote) as http:
        tokenized = await http.post("/tokenize", json={"inputs": inputs})
        whole = (await http.post("/generate", json=body)).json()
        stream = (await http.post("/generate_stream", json=body)).text
        templated = (await http.post("/chat_tokenize", json=chat)).json()
        answer = (await http.post(CHAT, json=chat)).json()
        chunks = chunks_of((await http.post(CHAT, json={**chat, **options})).text)
    count = len(tokenized.json())
    told = {name: int(text) for name, text in tokenized.headers.items() if name.startswith(("x-image", "x-prompt"))}
    assert told == {
        "x-prompt-tokens": count,
        "x-image-tokens": 229 + 159,
        "x-image-tiles": 5 + 4,
        "x-prompt-bucket": count,
        "x-prompt-padding": 0,
    }
    cost = {"images": [{"tiles": 5, "tokens": 229}, {"tiles": 4, "tokens": 159}], "cached_tokens": 0, "padding": 0}
    last_event = json.loads(stream.split("\n\n")[-2].removeprefix("data: "))
    assert whole["details"]["prompt_cost"] == last_event["details"]["prompt_cost"] == {**cost, "bucket": count}
    chat_count = len(templated["tokenize_response"])
    assert templated["prompt_cost"] == {**cost, "bucket": chat_count}
    assert answer["usage"] == chunks[-1]["usage"] == usage(chat_count, 2, tiles=9, image_tokens=388)


async def test_chat_reply(demo: LocalRuntime) -> None:
    """The prompt is the chat template's; the tokens follow the backend's rule."""
    body = {**HELLO, "temperature": 0, "max_tokens": 4}
    told = await demo.tokenize(GenerateRequest(messages=(Message("user", (TextPart("hello"),)),)))
    prompt = [each.id for each in told.tokens]
    text = TOKENIZER.decode(expected(prompt, 4), skip_special_tokens=True)
    async with client(demo) as http:
        whole = (await http.post(CHAT, json=body)).json()
        chunks = chunks_of((await http.post(CHAT, json={**body, "stream": True})).text)
    content = whole["choices"][0]["message"]["content"]
    assert content.strip() == text.strip()
    assert whole["usage"] == usage(len(prompt), 4)
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == content


async def test_several_prompts_through_a_gateway(demo: LocalRuntime, tmp_path: Path) -> None:
    """Token ids as they are, two prompts, two choices each, whole and streamed: each has its own reply."""
    prompts = [[1, 500], [1, 700, 5]]
    body = {"prompt": prompts, "n": 2, "temperature": 0, "max_tokens": 4}
    async with connected(demo, tmp_path) as connection, client(connection.remote) as http:
        whole = (await http.post("/v1/completions", json=body)).json()
        chunks = chunks_of((await http.post("/v1/completions", json={**body, "stream": True})).text)
    texts = [TOKENIZER.decode(expected(prompt, 4), skip_special_tokens=True).strip() for prompt in prompts]
    assert [choice["text"].strip() for choice in whole["choices"]] == [texts[0], texts[0], texts[1], texts[1]]
    choices = [chunk["choices"][0] for chunk in chunks]
    for index, choice in enumerate(whole["choices"]):
        assert "".join(each["text"] for each in choices if each["index"] == index) == choice["text"]
    assert whole["usage"] == usage(5, 16)


async def test_no_tokens_is_refused(demo: LocalRuntime) -> None:
    """In a chat too, a limit of 0 is an error, not a full context."""
    async with client(demo) as http:
        answer = await http.post(CHAT, json={**HELLO, "max_completion_tokens": 0})
    assert answer.status_code == 422


@pytest.mark.parametrize(
    "body",
    [
        {"inputs": "two", "parameters": {"top_k": -1}},
        {"inputs": "two", "parameters": {"seed": 2**64}},
        {"inputs": "two", "parameters": {"temperature": 0}},
        {"inputs": "two", "parameters": {"max_new_tokens": 0}},
        {"inputs": "two", "parameters": {"max_new_tokens": 2**40}},
        {"inputs": "\ud800"},
    ],
)
async def test_same_refusal_with_a_gateway_between(body: object, demo: LocalRuntime, tmp_path: Path) -> None:
    """What a message to the worker cannot hold is refused as the worker itself refuses it."""
    async with connected(demo, tmp_path) as connection:
        for runtime in (demo, connection.remote):
            async with client(runtime) as http:
                answer = await http.post("/generate", content=json.dumps(body), headers=JSON)
            assert answer.status_code == 422
            assert answer.json()["error_type"] == "validation"


def data_uri(picture: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(picture).decode()


def blank(width: int, height: int) -> bytes:
    """An encoded picture of nothing."""
    file = io.BytesIO()
    Image.new("RGB", (width, height)).save(file, "PNG")
    return file.getvalue()


def usage(prompt: int, completion: int, tiles: int = 0, image_tokens: int = 0) -> dict[str, Any]:
    """What is told of prompts that nothing is padded for, and that share no beginning with another."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {
            "cached_tokens": 0,
            "image_tokens": image_tokens,
            "image_tiles": tiles,
            "bucket": prompt,
            "padding": 0,
        },
    }


def chunks_of(text: str) -> list[dict[str, Any]]:
    return [
        json.loads(frame.removeprefix("data: ")) for frame in text.removesuffix("data: [DONE]\n\n").split("\n\n")[:-1]
    ]
