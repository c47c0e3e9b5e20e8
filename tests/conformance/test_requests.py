"""How TGI's requests are read: defaults, accepted ranges, and the guide's own request."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from runtime.local import LocalRuntime
from runtime.serve.assembly import build_runtime, model_of
from support.asgi import client
from support.command_line import settings_of
from support.scripted import ScriptedRuntime, last, token

pytestmark = pytest.mark.anyio

SAMPLES = [
    # the request beside its prompt, whether chance decides
    ({}, True),
    ({"parameters": {}}, False),
    ({"parameters": {"do_sample": False}}, False),
    ({"parameters": {"do_sample": True}}, True),
    ({"parameters": {"seed": 42, "max_new_tokens": 16}}, False),
    ({"parameters": {"repetition_penalty": 1.2, "frequency_penalty": 0.1, "watermark": True}}, False),
    ({"parameters": {"temperature": 1.0}}, False),
    ({"parameters": {"temperature": 0.5}}, True),
    ({"parameters": {"top_k": 10}}, True),
    ({"parameters": {"top_p": 0.95}}, True),
    ({"parameters": {"typical_p": 0.95}}, True),
]


@pytest.mark.parametrize(("given", "samples"), SAMPLES, ids=lambda value: json.dumps(value))
async def test_whether_a_request_samples(given: dict[str, Any], samples: bool) -> None:
    """It does without `parameters`, and is greedy with empty ones; whatever only sampling uses turns it on."""
    runtime = ScriptedRuntime(last("a", token("a")))
    async with client(runtime) as http:
        assert (await http.post("/generate", json={"inputs": "a", **given})).status_code == 200
    (request,) = runtime.requests
    assert request.sampling.draws is samples


RANGES: dict[str, tuple[list[Any], list[Any]]] = {
    # parameter: values taken, values refused
    "best_of": ([None, 1], [0, 3]),
    "temperature": ([None, 1e-6, 100.0], [0.0, -1.0]),
    "repetition_penalty": ([None, 1e-6, 1.0, 2.0], [0.0, -1.0]),
    "frequency_penalty": ([None, -2.0, 0.0, 2.0], [-2.1, 2.1]),
    "top_k": ([None, 1, 1000], [0, -1]),
    "top_p": ([None, 1e-6, 0.99], [0.0, 1.0]),
    "typical_p": ([None, 1e-6, 0.99], [0.0, 1.0]),
    "max_new_tokens": ([None, 1], [0]),
    "stop": ([[], ["a"] * 4], [["a"] * 5]),
    "truncate": ([None, 1, 48], [0, 49]),
    "seed": ([None, 0, 2**64 - 1], [-1, 2**64]),
    "top_n_tokens": ([None, 0, 5], [6]),
    "adapter_id": ([None], ["lora"]),
}


@pytest.mark.parametrize("parameter", RANGES)
async def test_accepted_ranges(parameter: str) -> None:
    """TGI's with its default limits: both ends of each range, and what lies beyond; refusals are its 422.

    An adapter is refused because none is served, where TGI without adapters fails later.
    """
    taken, refused = RANGES[parameter]
    async with client(ScriptedRuntime(last("a", token("a")))) as http:

        async def answer(value: Any) -> tuple[int, str | None]:
            body = {"inputs": "a", "parameters": {parameter: value}}
            answer = await http.post("/generate", json=body)
            return answer.status_code, answer.json().get("error_type")

        assert [await answer(value) for value in taken] == [(200, None)] * len(taken)
        assert [await answer(value) for value in refused] == [(422, "validation")] * len(refused)


def rabbit() -> str:
    """A picture in the prompt of the guide; its own is an address, which is not fetched."""
    file = io.BytesIO()
    Image.new("RGB", (60, 40)).save(file, "PNG")
    return f"![](data:image/png;base64,{base64.b64encode(file.getvalue()).decode()})What is this a picture of?\n\n"


@pytest.fixture
async def guide(arithmetic_plugin: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LocalRuntime]:
    """A server with the variable of the guide's command that matters here."""
    monkeypatch.syspath_prepend(str(arithmetic_plugin))
    words = ("--model-id", "demo", "--backend", "arithmetic")
    settings = settings_of(*words, TEXT_GENERATION_SERVER_IGNORE_EOS_TOKEN="true")
    runtime = build_runtime(settings, model_of(settings))
    await asyncio.wrap_future(runtime.engine.loaded)
    yield runtime
    await runtime.aclose()


async def test_request_of_the_guide(guide: LocalRuntime) -> None:
    """Parameters are there, so it is greedy and the seed does nothing; 16 tokens, whatever they are; no details."""

    async def events(**parameters: Any) -> list[dict[str, Any]]:
        body = {"inputs": rabbit(), "parameters": {"max_new_tokens": 16, **parameters}}
        async with client(guide) as http:
            answer = await http.post("/generate_stream", json=body)
        assert answer.status_code == 200
        return [json.loads(frame.removeprefix("data: ")) for frame in answer.text.split("\n\n")[:-1]]

    told = await events(seed=42)
    assert [event["index"] for event in told] == list(range(1, 17))
    assert [event["generated_text"] is None for event in told] == [True] * 15 + [False]
    assert all(event["details"] is None for event in told)
    assert told == await events(seed=43) == await events()
    details = (await events(seed=42, details=True))[-1]["details"]
    assert (details["finish_reason"], details["generated_tokens"], details["seed"]) == ("length", 16, None)


async def test_end_of_sequence_is_ignored_for_the_guide(guide: LocalRuntime) -> None:
    """A prompt after which the first token is the end of sequence has 16 tokens too."""
    body = {"prompt": [300], "max_tokens": 16, "temperature": 0}
    async with client(guide) as http:
        answer = (await http.post("/v1/completions", json=body)).json()
    assert (answer["choices"][0]["finish_reason"], answer["usage"]["completion_tokens"]) == ("length", 16)
