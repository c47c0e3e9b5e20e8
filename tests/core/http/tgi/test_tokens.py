"""/tokenize and /chat_tokenize; the scripted prompt is `support.scripted.TOKENS`."""

from __future__ import annotations

import pytest
from runtime.cost import PromptCost
from runtime.errors import NotReady
from runtime.runtime import GenerateRequest, ImageUrlPart, Message, TextPart, Tokenization
from support.asgi import client
from support.scripted import COST_BODY, TOKENS, ScriptedRuntime

pytestmark = pytest.mark.anyio

BODIES = [
    {"id": 1, "text": "<s>", "start": None, "stop": None},
    {"id": 7, "text": "one", "start": 0, "stop": 3},
    {"id": 8, "text": " two", "start": 3, "stop": 7},
]


@pytest.mark.proves("POST /tokenize")
async def test_tokenize() -> None:
    """Ids, texts and places; a token that is no text of the prompt has no place."""
    runtime = ScriptedRuntime()
    async with client(runtime) as http:
        answer = await http.post("/tokenize", json={"inputs": "![](data:x)one two"})
    assert answer.json() == BODIES
    assert runtime.requests == [GenerateRequest((ImageUrlPart("data:x"), TextPart("one two")))]


async def test_cost_is_in_the_headers() -> None:
    """The body is TGI's array; what is not known before the model serves is left out."""

    class Loading(ScriptedRuntime):
        async def tokenize(self, request: GenerateRequest) -> Tokenization:
            return Tokenization(TOKENS, PromptCost())

    told = []
    for runtime in (ScriptedRuntime(), Loading()):
        async with client(runtime) as http:
            answer = await http.post("/tokenize", json={"inputs": "a"})
        told.append({name: count for name, count in answer.headers.items() if name.startswith("x-")})
    images = {"x-image-tokens": "32", "x-image-tiles": "8"}
    assert told == [
        {"x-prompt-tokens": "3", **images, "x-prompt-bucket": "64", "x-prompt-padding": "7"},
        {"x-prompt-tokens": "3", "x-image-tokens": "0", "x-image-tiles": "0"},
    ]


@pytest.mark.proves("POST /chat_tokenize")
async def test_chat_tokenize() -> None:
    """The text the template makes besides."""
    runtime = ScriptedRuntime()
    async with client(runtime) as http:
        answer = await http.post("/chat_tokenize", json={"messages": [{"role": "user", "content": "one two"}]})
    assert answer.json() == {
        "templated_text": "<s>one two",
        "tokenize_response": BODIES,
        "prompt_cost": COST_BODY,
    }
    assert runtime.requests[0].messages == (Message("user", (TextPart("one two"),)),)


async def test_empty_prompt() -> None:
    """Refused as /generate does."""
    async with client(ScriptedRuntime()) as http:
        answer = await http.post("/tokenize", json={"inputs": ""})
    assert (answer.status_code, answer.json()["error"]) == (422, "Input validation error: `inputs` must not be empty")


async def test_no_worker() -> None:
    """The status of the error."""
    async with client(ScriptedRuntime(NotReady("gone"))) as http:
        assert (await http.post("/tokenize", json={"inputs": "a"})).status_code == 503
