"""Receipts on every route that generates: told when asked for, at the end of the reply, and absent else."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from runtime.runtime import Delta
from support.asgi import client, events, text_of
from support.receipts import RECEIPT
from support.scripted import ScriptedRuntime, last, token

pytestmark = pytest.mark.anyio

CHAT = {"messages": [{"role": "user", "content": "a"}]}
WITHOUT = last("one two", token(" two", 8))
assert WITHOUT.completion is not None
REPLY = (Delta((token("one"),)), replace(WITHOUT, completion=replace(WITHOUT.completion, receipt=RECEIPT)))


async def posted(path: str, body: dict[str, Any], *script: Delta) -> tuple[str, bool]:
    """The answer, and whether the runtime was asked for a receipt."""
    runtime = ScriptedRuntime(*(script or REPLY))
    async with client(runtime) as http:
        answer = await http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    (request,) = runtime.requests
    return answer.text, request.receipt


async def test_tgi() -> None:
    """In the details, which it implies."""
    text, asked = await posted("/generate", {"inputs": "a", "parameters": {"receipt": True}})
    details = json.loads(text)["details"]
    assert asked
    assert details["receipt"] == RECEIPT.facts()
    assert [each["id"] for each in details["tokens"]] == [7, 8]


async def test_tgi_in_a_list() -> None:
    """The oldest route."""
    text, _ = await posted("/", {"inputs": "a", "parameters": {"receipt": True}})
    assert json.loads(text)[0]["details"]["receipt"] == RECEIPT.facts()


async def test_tgi_stream() -> None:
    """In the details of the last event."""
    text, asked = await posted("/generate_stream", {"inputs": "a", "parameters": {"receipt": True}})
    told = [json.loads(line.removeprefix("data:")) for line in text.splitlines() if line]
    assert asked
    assert [event["details"] is None for event in told] == [True, False]
    assert told[-1]["details"]["receipt"] == RECEIPT.facts()


@pytest.mark.parametrize(("path", "body"), [("/v1/chat/completions", CHAT), ("/v1/completions", {"prompt": "a"})])
async def test_openai(path: str, body: dict[str, Any]) -> None:
    """Beside the usage."""
    text, asked = await posted(path, {**body, "receipt": True})
    assert asked
    assert json.loads(text)["receipt"] == RECEIPT.facts()


@pytest.mark.parametrize(("path", "body"), [("/v1/chat/completions", CHAT), ("/v1/completions", {"prompt": "a"})])
async def test_openai_stream(path: str, body: dict[str, Any]) -> None:
    """In the chunk that tells why the reply ended, and in no other."""
    usage = {"stream": True, "stream_options": {"include_usage": True}}
    text, asked = await posted(path, {**body, **usage, "receipt": True})
    (told,) = [chunk for chunk in events(text) if "receipt" in chunk]
    assert asked
    assert told["receipt"] == RECEIPT.facts()
    assert told["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/generate", {"inputs": "a", "parameters": {"details": True}}),
        ("/generate_stream", {"inputs": "a", "parameters": {"details": True}}),
        ("/v1/chat/completions", {**CHAT, "receipt": None}),
        ("/v1/completions", {"prompt": "a", "receipt": False}),
        ("/v1/completions", {"prompt": "a", "stream": True}),
    ],
)
async def test_nobody_asked(path: str, body: dict[str, Any]) -> None:
    """Then the field is not there, not even as null."""
    text, asked = await posted(path, body, WITHOUT)
    assert not asked
    assert "receipt" not in text


@pytest.mark.parametrize(
    ("path", "body"),
    [("/v1/chat/completions", {**CHAT, "n": 2}), ("/v1/completions", {"prompt": ["a", "b"]})],
)
async def test_of_several_replies(path: str, body: dict[str, Any]) -> None:
    """A receipt is of one."""
    async with client(ScriptedRuntime(*REPLY)) as http:
        answer = await http.post(path, json={**body, "receipt": True})
    assert answer.status_code == 422
    assert text_of(answer) == "`receipt` is of one reply, and 2 are asked for; ask for one"
