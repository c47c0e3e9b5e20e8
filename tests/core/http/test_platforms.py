"""The routes of hosting platforms."""

from __future__ import annotations

import pytest
from support.asgi import client
from support.scripted import InTurn, ScriptedRuntime, last, token

pytestmark = pytest.mark.anyio

CHAT = {"messages": [{"role": "user", "content": "hello"}]}


@pytest.mark.proves("POST /invocations")
async def test_invocations_of_prompts() -> None:
    """The form of the route /, whole or streamed."""
    async with client(ScriptedRuntime(last("a", token("a")))) as http:
        whole = await http.post("/invocations", json={"inputs": "b"})
        stream = await http.post("/invocations", json={"inputs": "b", "stream": True})
    assert whole.json() == [{"generated_text": "a"}]
    assert stream.headers["content-type"].startswith("text/event-stream")


async def test_invocations_of_conversations() -> None:
    """When the operator says so, and prompts are refused then."""
    async with client(ScriptedRuntime(last("a", token("a"))), messages_api_enabled=True) as http:
        answer = await http.post("/invocations", json=CHAT)
        refused = await http.post("/invocations", json={"inputs": "b"})
    assert answer.json()["choices"][0]["message"]["content"] == "a"
    assert refused.status_code == 422


@pytest.mark.proves("POST /vertex")
async def test_vertex() -> None:
    """Prompts and conversations beside each other; a prediction is a text."""
    runtime = InTurn((last("one", token("one")),), (last("two stop", token("two stop")),))
    instances = [{"inputs": "a", "parameters": {"return_full_text": True}}, {**CHAT, "stop": " stop"}]
    async with client(runtime) as http:
        answer = await http.post("/vertex", json={"instances": instances})
    assert answer.json() == {"predictions": ["aone", "two"]}
    assert [bool(request.messages) for request in runtime.requests] == [False, True]


@pytest.mark.parametrize(
    ("instances", "named"),
    [
        ([], "`instances`"),
        ([{"inputs": "a"}] * 5, "`instances` may be at most 4, got 5"),
        ([{"inputs": "a", "parameters": {"temperature": 0}}], "`temperature`"),
        ([{"inputs": "a", "parameters": {"best_of": 2, "do_sample": True}}], "`best_of` must be 1 in an instance"),
        ([{"messages": []}], "`instances.0.messages`"),
        ([5], "`instances.0"),
    ],
)
async def test_what_is_refused(instances: object, named: str) -> None:
    """By name, and nothing is computed."""
    runtime = ScriptedRuntime()
    async with client(runtime) as http:
        answer = await http.post("/vertex", json={"instances": instances})
    assert answer.status_code == 422
    assert named in answer.json()["error"]
    assert not runtime.requests
