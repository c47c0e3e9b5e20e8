"""The documentation tells the limits that hold, and what is at a limit is served."""

from __future__ import annotations

from typing import Any

import pytest
from runtime.http.app import create_app
from runtime.http.options import HttpOptions
from runtime.parameters import LARGEST, SMALLEST
from support.asgi import client
from support.scripted import ScriptedRuntime, last, token

pytestmark = pytest.mark.anyio

OPERATORS: dict[str, Any] = {
    "max_best_of": 3,
    "max_client_batch_size": 7,
    "max_stop_sequences": 2,
    "max_top_n_tokens": 6,
}


def fields_of(schema: str) -> dict[str, dict[str, Any]]:
    """The documented fields of a body: for each, the facts of its type and those told beside it."""
    app = create_app(ScriptedRuntime(), HttpOptions(payload_limit=1, **OPERATORS))
    told = {}
    for name, field in app.openapi()["components"]["schemas"][schema]["properties"].items():
        first = field.get("anyOf", [{}])[0]
        told[name] = {**first, **field}
    return told


@pytest.mark.parametrize(
    ("schema", "field", "limits"),
    [
        ("GenerateParameters", "best_of", {"minimum": 1, "maximum": 3}),
        ("GenerateParameters", "top_n_tokens", {"minimum": 0, "maximum": 6}),
        ("GenerateParameters", "stop", {"maxItems": 2}),
        ("GenerateParameters", "temperature", {"minimum": SMALLEST, "maximum": LARGEST}),
        ("GenerateParameters", "top_p", {"minimum": SMALLEST, "exclusiveMaximum": 1}),
        ("GenerateParameters", "max_new_tokens", {"minimum": 1, "maximum": 2**31 - 1}),
        ("GenerateBody", "inputs", {"minLength": 1}),
        ("ChatBody", "n", {"minimum": 1, "maximum": 7}),
        ("ChatBody", "stop", {"maxItems": 2}),
        ("ChatBody", "max_completion_tokens", {"minimum": 1, "maximum": 2**31 - 1}),
        ("ChatBody", "top_logprobs", {"minimum": 0, "maximum": 20}),
        ("CompletionsBody", "presence_penalty", {"minimum": -2, "maximum": 2}),
        ("CompletionsBody", "logprobs", {"minimum": 0, "maximum": 5}),
        ("VertexBody", "instances", {"minItems": 1, "maxItems": 7}),
    ],
)
def test_documented(schema: str, field: str, limits: dict[str, float]) -> None:
    """Those of the operator and those that always hold."""
    told = fields_of(schema)[field]
    assert {name: told.get(name) for name in limits} == limits


NUMBERS = ("minimum", "maximum")


async def test_limits_of_parameters_are_served() -> None:
    """Each whole or real limit that the documentation tells of TGI's parameters belongs to what is served."""
    for name, field in fields_of("GenerateParameters").items():
        for limit in (field[each] for each in NUMBERS if each in field and name != "truncate"):
            parameters = {"do_sample": True, name: int(limit) if field["type"] == "integer" else limit}
            async with client(ScriptedRuntime(last("a", token("a"))), **OPERATORS) as http:
                answer = await http.post("/generate", json={"inputs": "a", "parameters": parameters})
            assert answer.status_code == 200, answer.text
