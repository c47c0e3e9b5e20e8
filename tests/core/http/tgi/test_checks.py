"""Parameters that cannot be served: each is named with its rule, and the first in TGI's order is the one told."""

from __future__ import annotations

from typing import Any

import pytest
from runtime.errors import InvalidRequest
from runtime.http.options import HttpOptions
from runtime.http.tgi.checks import check
from runtime.http.tgi.schema import GenerateBody
from support.asgi import client
from support.scripted import ScriptedRuntime, last, token

pytestmark = pytest.mark.anyio

OPTIONS = HttpOptions(payload_limit=1000)

# In the order of TGI (router/src/validation.rs); the first two are checked before all others there too.
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"best_of": 3, "do_sample": True}, "`best_of` must be above 0 and at most 2, got 3"),
    ({"best_of": 0}, "`best_of` must be above 0 and at most 2, got 0"),
    ({"best_of": 2}, "`best_of` above 1 needs sampling"),
    ({"temperature": 0}, "`temperature` must be above 0, got 0"),
    ({"repetition_penalty": 0}, "`repetition_penalty` must be above 0, got 0"),
    ({"frequency_penalty": 2.5}, "`frequency_penalty` must be from -2 to 2, got 2.5"),
    ({"top_p": 1}, "`top_p` must be above 0 and below 1, got 1"),
    ({"typical_p": 1}, "`typical_p` must be above 0 and below 1, got 1"),
    ({"top_k": 0}, "`top_k` must be above 0, got 0"),
    ({"max_new_tokens": 0}, "`max_new_tokens` must be above 0, got 0"),
    ({"stop": ["x"] * 5}, "`stop` supports up to 4 texts, got 5"),
    ({"seed": 2**64}, "`seed` must be from 0"),
    ({"top_n_tokens": 6}, "`top_n_tokens` must be from 0 to 5, got 6"),
]
MORE: list[tuple[dict[str, Any], str]] = [
    ({"temperature": float("nan")}, "`temperature` must be above 0"),
    ({"top_p": 0}, "`top_p` must be above 0"),
    ({"top_p": float("nan")}, "`top_p` must be above 0"),
    ({"frequency_penalty": -2.5}, "`frequency_penalty` must be from -2"),
    ({"top_k": -1}, "`top_k` must be above 0"),
    ({"top_n_tokens": -1}, "`top_n_tokens` must be from 0"),
    ({"seed": -1}, "`seed` must be from 0"),
    ({"best_of": 2, "do_sample": True, "seed": 1}, "`seed` must be absent when `best_of` is above 1"),
    ({"adapter_id": "a"}, "`adapter_id`: this server has no adapters"),
]


def refusal(parameters: dict[str, Any], stream: bool = False, inputs: str = "a") -> str:
    """The text of the error."""
    body = GenerateBody.model_validate({"inputs": inputs, "parameters": parameters})
    with pytest.raises(InvalidRequest) as caught:
        check(body, OPTIONS, stream)
    return caught.value.message


@pytest.mark.parametrize(("parameters", "text"), REFUSED + MORE)
def test_each_parameter_by_itself(parameters: dict[str, Any], text: str) -> None:
    """The name, the rule and the value."""
    assert refusal(parameters).startswith(text)


def test_the_first_in_order_is_told() -> None:
    """Whatever is wrong after it."""
    for position in range(3, len(REFUSED)):  # the others turn sampling on, which best_of needs
        everything: dict[str, Any] = {}
        for parameters, _ in REFUSED[position:]:
            everything |= parameters
        assert refusal(everything, inputs="").startswith(REFUSED[position][1])


def test_empty_prompt_is_told_last() -> None:
    """After all parameters."""
    assert refusal({}, inputs="") == "`inputs` must not be empty"


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"best_of": 2, "do_sample": True}, "`best_of` must be 1 for a stream, got 2"),
        ({"decoder_input_details": True}, "`decoder_input_details` must be false for a stream"),
    ],
)
async def test_what_a_stream_cannot_have(parameters: dict[str, Any], text: str) -> None:
    """A real status, and nothing is computed."""
    runtime = ScriptedRuntime()
    async with client(runtime) as http:
        answer = await http.post("/generate_stream", json={"inputs": "a", "parameters": parameters})
    assert (answer.status_code, answer.json()["error"]) == (422, f"Input validation error: {text}")
    assert not runtime.requests


@pytest.mark.parametrize("parameters", [{"best_of": 1}, {"best_of": 2, "temperature": 0.5}, {"seed": 0}, {"top_k": 1}])
def test_what_passes(parameters: dict[str, Any]) -> None:
    """Any parameter that draws is sampling enough for best_of."""
    check(GenerateBody.model_validate({"inputs": "a", "parameters": parameters}), OPTIONS, stream=False)


@pytest.mark.parametrize(("given", "status"), [(0, 422), (1, 200), (48, 200), (49, 422)])
async def test_truncate(given: int, status: int) -> None:
    """At least a token, and at most what the server takes: here 48."""
    async with client(ScriptedRuntime(last("a", token("a")))) as http:
        answer = await http.post("/generate", json={"inputs": "a", "parameters": {"truncate": given}})
    assert answer.status_code == status
    if status == 422:
        text = f"Input validation error: `truncate` must be above 0 and at most 48, got {given}"
        assert answer.json()["error"] == text
