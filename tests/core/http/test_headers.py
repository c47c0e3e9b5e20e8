"""Headers that tell what a reply cost."""

from __future__ import annotations

import pytest
from runtime.runtime import Completion, Delta, FinishReason, Timings
from support.asgi import client
from support.scripted import InTurn, ScriptedRuntime, last, token

pytestmark = pytest.mark.anyio


def timed(total: float) -> Delta:
    """A reply of 4 tokens to 5 whose inference took half a second."""
    timings = Timings(validation=0.0125, queue=0.25, inference=0.5, total=total)
    return Delta((token("a"),), Completion("a", FinishReason.LENGTH, 4, 5, None, timings))


COST = {
    "x-compute-type": "cpu",
    "x-compute-characters": "8",
    "x-compute-time": "0.7625",
    "x-total-time": "762",
    "x-validation-time": "12",
    "x-queue-time": "250",
    "x-inference-time": "500",
    "x-time-per-token": "125",
    "x-prompt-tokens": "5",
    "x-generated-tokens": "4",
}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/", {"inputs": "12345678"}),
        ("/generate", {"inputs": "![](d:)8"}),
        ("/v1/completions", {"prompt": "12345678"}),
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": letters} for letters in ("1234", "5678")]},
        ),
        ("/invocations", {"inputs": "12345678"}),
        ("/vertex", {"instances": [{"inputs": "12345678"}]}),
    ],
)
async def test_whole_replies(path: str, body: object) -> None:
    """TGI's headers: times in whole milliseconds, but for the first, which is in seconds."""
    async with client(ScriptedRuntime(timed(0.7625))) as http:
        answer = await http.post(path, json=body)
    assert {name: value for name, value in answer.headers.items() if name.startswith("x-")} == COST


async def test_reply_without_timings() -> None:
    """A worker that tells none; counts are told."""
    async with client(ScriptedRuntime(last("a", token("a")))) as http:
        answer = await http.post("/generate", json={"inputs": "a"})
    told = {name for name in answer.headers if name.startswith("x-")}
    assert told == {"x-compute-type", "x-compute-characters", "x-prompt-tokens", "x-generated-tokens"}


async def test_several_replies() -> None:
    """Tokens of all, times of the slowest."""
    async with client(InTurn((timed(1.5),), (timed(2.5),))) as http:
        answer = await http.post("/v1/completions", json={"prompt": ["a", "b"]})
    told = [answer.headers[name] for name in ("x-total-time", "x-generated-tokens", "x-prompt-tokens")]
    assert told == ["2500", "8", "10"]


@pytest.mark.parametrize(
    ("path", "body"),
    [("/generate_stream", {"inputs": "ab"}), ("/v1/completions", {"prompt": "ab", "stream": True})],
)
async def test_streams(path: str, body: object) -> None:
    """What is known before the reply, and that no proxy may hold it back."""
    async with client(ScriptedRuntime(timed(1)), compute_type="fast") as http:
        answer = await http.post(path, json=body)
    told = {name: value for name, value in answer.headers.items() if name.startswith("x-")}
    assert told == {"x-compute-type": "fast", "x-compute-characters": "2", "x-accel-buffering": "no"}
