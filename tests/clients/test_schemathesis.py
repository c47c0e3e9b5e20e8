"""Requests that schemathesis makes up from our OpenAPI document never make the server fail."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from runtime.http.app import create_app
from runtime.http.options import HttpOptions
from support.processes import serving
from support.scripted import ScriptedRuntime

schemathesis = pytest.importorskip("schemathesis")
checks = pytest.importorskip("schemathesis.specs.openapi.checks")

NOT_NOW = {501, 503}
"""A part that is not installed, a model that is not ready: documented, and no failures."""
PROMPTS = {"inputs", "prompt", "messages", "instances", "parameters"}
"""Fields that are kept. Others are dropped now and then: each may be good and two of them not go together."""
LIMITS = ("--max-input-tokens", "256", "--max-total-tokens", "288")
"""A reply that fills its context is short."""

document = create_app(ScriptedRuntime(), HttpOptions(payload_limit=1)).openapi()
operations = [found.ok() for found in schemathesis.openapi.from_dict(document).get_all_operations()]


@pytest.fixture(scope="session")
def url(arithmetic_plugin: Path) -> Iterator[str]:
    """Address of the whole worker on the arithmetic backend, which no proxy of the environment comes between."""
    arguments = ("--backend", "arithmetic", "--model-id", "demo", *LIMITS)
    with pytest.MonkeyPatch.context() as patch, serving(*arguments, folders=[arithmetic_plugin]) as server:
        for name in ("NO_PROXY", "no_proxy"):
            patch.setenv(name, "*")
        yield server.http


def one_turn(body: object, data: st.DataObject) -> object:
    """The body with one message of the user in each conversation: made up roles and many pictures are refused."""
    if isinstance(body, list):
        return [one_turn(item, data) for item in body]
    if not isinstance(body, dict):
        return body
    if "messages" not in body:
        return {name: one_turn(value, data) for name, value in body.items()}
    said = st.just(body["messages"][0].get("content")) | st.text(min_size=1, max_size=20)
    return {**body, "messages": [{"role": "user", "content": data.draw(said)}]}


def few_options(body: object, data: st.DataObject) -> object:
    """The body with one option of each object in it at most."""
    if isinstance(body, list):
        return [few_options(item, data) for item in body]
    if not isinstance(body, dict) or not PROMPTS & set(body):
        return body
    options = sorted(set(body) - PROMPTS)
    kept = PROMPTS | {data.draw(st.sampled_from([*options, ""]))}
    few = {name: few_options(value, data) for name, value in body.items() if name in kept}
    if isinstance(few.get("parameters"), dict) and few["parameters"]:
        name = data.draw(st.sampled_from(sorted(few["parameters"])))
        few["parameters"] = {name: few["parameters"][name]}
    return few


@pytest.mark.parametrize("operation", operations, ids=lambda operation: operation.label)
@settings(max_examples=20, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_answers_are_documented(url: str, operation: schemathesis.openapi.APIOperation, data: st.DataObject) -> None:
    """Any status but a failure, in the form that the document has for it."""
    case = data.draw(operation.as_strategy())
    if data.draw(st.sampled_from([True, True, True, False])):
        case.body = one_turn(case.body, data)
    if data.draw(st.booleans()):
        case.body = few_options(case.body, data)
    response = case.call(base_url=url)
    assert response.status_code < 500 or response.status_code in NOT_NOW, response.text
    if response.status_code not in NOT_NOW:
        conformance = [checks.status_code_conformance, checks.response_schema_conformance]
        case.validate_response(response, checks=conformance)
