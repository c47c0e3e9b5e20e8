"""What is wrong with a body is said in our words: the path of the client's own names, the rule, the value."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from runtime.http.openai.chat_schema import ChatBody
from runtime.http.openai.completions_schema import CompletionsBody
from runtime.http.platforms import VertexBody
from runtime.http.tgi.schema import CompatBody
from runtime.http.wording import UNIONS, refusal

USER = {"role": "user", "content": "hi"}
CALL = {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": 5}}]}


def told(model: type[BaseModel], body: object) -> str | None:
    """The text for the first problem with a body; None when it has none."""
    try:
        model.model_validate(body)
    except ValidationError as error:
        problem: dict[str, Any] = dict(error.errors()[0])
        return refusal({**problem, "loc": ("body", *problem["loc"])}).message
    return None


@pytest.mark.parametrize(
    ("model", "body", "text"),
    [
        (CompatBody, {}, "`inputs` is required and missing"),
        (CompatBody, {"inputs": 5}, "`inputs` must be a text, got 5"),
        (CompatBody, {"inputs": ["a", "b"]}, "`inputs` must be a text, got a list of 2"),
        (CompatBody, {"inputs": "a", "stream": "perhaps"}, '`stream` must be true or false, got "perhaps"'),
        (CompatBody, {"inputs": "a", "parameters": 5}, "`parameters` must be an object, got 5"),
        (
            CompatBody,
            {"inputs": "a", "parameters": {"top_k": 1.5}},
            "`parameters.top_k` must be a whole number, got 1.5",
        ),
        (
            CompatBody,
            {"inputs": "a", "parameters": {"top_p": {}}},
            "`parameters.top_p` must be a number, got an object",
        ),
        (CompatBody, {"inputs": "a", "parameters": {"stop": "x"}}, '`parameters.stop` must be a list, got "x"'),
        (
            CompatBody,
            {"inputs": "a", "parameters": {"grammar": {"type": "bnf"}}},
            "`parameters.grammar` must have one of 'json', 'json_object', 'regex' as its `type`, got \"bnf\"",
        ),
        (
            CompatBody,
            {"inputs": "a", "parameters": {"grammar": {"value": "a"}}},
            "`parameters.grammar` needs a `type`, got an object",
        ),
        (
            CompatBody,
            {"inputs": "a", "parameters": {"grammar": {"type": "regex"}}},
            "`parameters.grammar.value` is required and missing",
        ),
        (
            CompatBody,
            {"inputs": "a", "parameters": {"grammar": {"type": "json", "value": 5}}},
            "`parameters.grammar.value`: send a JSON schema as an object or as its text",
        ),
        (ChatBody, {"messages": []}, "`messages` must have 1 or more items, got a list of 0"),
        (ChatBody, {"messages": [USER], "n": 0}, "`n` must be at least 1, got 0"),
        (ChatBody, {"messages": [USER], "top_logprobs": 21}, "`top_logprobs` must be at most 20, got 21"),
        (ChatBody, {"messages": [USER], "seed": 2**64}, f"`seed` must be below {2**64}, got {2**64}"),
        (ChatBody, {"messages": [USER], "temperature": float("nan")}, "`temperature` must be at least 0, got NaN"),
        (
            ChatBody,
            {"messages": [USER], "model": "m" * 1025},
            '`model` must have at most 1024 characters, got "' + "m" * 59 + "...",
        ),
        (
            ChatBody,
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "`messages.0.content.0.image_url.url` is required and missing",
        ),
        (
            ChatBody,
            {"messages": [USER], "response_format": {"type": "json_schema", "json_schema": {"name": "a"}}},
            "`response_format.json_schema.schema` is required and missing",
        ),
        (
            ChatBody,
            {"messages": [USER], "tools": [{"type": "magic", "function": {"name": "f"}}]},
            "`tools.0.type` must be 'function', got \"magic\"",
        ),
        (
            ChatBody,
            {"messages": [CALL]},
            "`messages.0.tool_calls.0.function.arguments`: send the arguments as the text of a JSON object",
        ),
        (VertexBody, {"instances": [{"messages": [{}]}]}, "`instances.0.messages.0.role` is required and missing"),
        (VertexBody, {"instances": [{"inputs": "a"}, {}]}, "`instances.1.inputs` is required and missing"),
    ],
)
def test_text(model: type[BaseModel], body: object, text: str) -> None:
    """Each rule at one field."""
    assert told(model, body) == text


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
FIELDS = {model: sorted(model.model_fields) for model in (ChatBody, CompletionsBody, CompatBody, VertexBody)}
GOOD = {"messages": [USER], "prompt": "a", "inputs": "a", "instances": [{"inputs": "a"}]}


@given(st.data(), st.sampled_from(list(FIELDS)), json_values)
def test_any_value_of_any_field(data: st.DataObject, model: type[BaseModel], value: object) -> None:
    """The field is named first, and every kind of problem has a text of ours."""
    field = data.draw(st.sampled_from(FIELDS[model]))
    text = told(model, {**GOOD, field: value})
    if text is not None:
        assert text.startswith(f"`{field}")
        assert "wrong value" not in text
        assert "something else" not in text
        assert len(text) < 300


@given(json_values)
@example("\ud800")
def test_any_message(value: object) -> None:
    """As deep as a message goes."""
    for message in (
        {"role": value},
        {**USER, "content": value},
        {**USER, "content": [{"type": "text", "text": value}]},
    ):
        text = told(ChatBody, {"messages": [message]})
        if text is not None:
            assert text.startswith("`messages.0")
            assert "wrong value" not in text


def unions(model: type[BaseModel]) -> set[str]:
    """Fields below a model whose value is one of several kinds of objects."""
    schema = model.model_json_schema()
    definitions = [schema, *schema["$defs"].values()]
    return {
        name
        for definition in definitions
        for name, field in definition.get("properties", {}).items()
        if "oneOf" in json.dumps(field)
    }


def test_fields_of_several_kinds_are_known() -> None:
    """Otherwise a kind would be told as a name of the client's."""
    assert unions(ChatBody) | unions(CompatBody) | unions(VertexBody) == UNIONS
