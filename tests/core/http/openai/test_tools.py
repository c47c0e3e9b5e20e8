"""Tools: what the model is told, what it is held to, and what the client gets."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from runtime.runtime import Delta, FinishReason, GenerateRequest, GrammarKind, TextPart
from support.asgi import client, events
from support.scripted import ScriptedRuntime, last, token

pytestmark = pytest.mark.anyio

PATH = "/v1/chat/completions"
POINT = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
DRAW = {
    "name": "draw",
    "description": "Draw a line.",
    "parameters": {
        "type": "object",
        "properties": {"start": {"$ref": "#/$defs/point"}},
        "required": ["start"],
        "$defs": {"point": POINT},
    },
}
WIPE = {"name": "wipe"}
TOOLS = [{"type": "function", "function": DRAW}, {"type": "function", "function": WIPE}]
ASK = {"messages": [{"role": "user", "content": "draw!"}], "tools": TOOLS}
CALL = ('{"name": "dr', 'aw", "arguments": {"start"', ': {"x": 1}}}')
ANSWER = ('{"name": "no_tool", "arguments": {"content": "I w', 'ill not\\n"}}')


def script(pieces: tuple[str, ...], reason: FinishReason = FinishReason.EOS_TOKEN) -> list[Delta]:
    """A reply of these tokens."""
    deltas = [Delta((token(piece),)) for piece in pieces]
    return [*deltas, last("".join(pieces), token("</s>", 2, special=True), reason=reason)]


async def parsed(**fields: object) -> GenerateRequest:
    """What the runtime is asked when these fields are posted."""
    runtime = ScriptedRuntime(*script(CALL))
    async with client(runtime) as http:
        answer = await http.post(PATH, json={**ASK, **fields})
    assert answer.status_code == 200, answer.text
    (request,) = runtime.requests
    return request


def allows(request: GenerateRequest, reply: object) -> bool:
    """Whether the reply follows the grammar of the request; jsonschema is the judge."""
    assert request.grammar is not None
    assert request.grammar.kind is GrammarKind.JSON_SCHEMA
    return jsonschema.Draft202012Validator(json.loads(request.grammar.value)).is_valid(reply)


def call(name: str, **arguments: object) -> dict[str, object]:
    return {"name": name, "arguments": arguments}


@pytest.mark.parametrize(
    ("choice", "draw", "wipe", "answer"),
    [
        (None, True, True, True),
        ("auto", True, True, True),
        ("required", True, True, False),
        ({"type": "function", "function": {"name": "draw"}}, True, False, False),
        ("wipe", False, True, False),
    ],
)
async def test_what_the_model_is_held_to(choice: object, draw: bool, wipe: bool, answer: bool) -> None:
    """Every choice allows its functions and no others; only `auto` leaves room for plain words."""
    request = await parsed(tool_choice=choice)
    assert allows(request, call("draw", start={"x": 1})) is draw
    assert allows(request, call("wipe")) is wipe
    assert allows(request, call("no_tool", content="hello")) is answer
    for wrong in (call("draw", start={"x": "1"}), call("draw"), call("wipe", a=1), call("other"), {}, "hello"):
        assert not allows(request, wrong)


async def test_what_the_model_is_told() -> None:
    """The functions as JSON after the user's text, and how to call them."""
    text = (await parsed(tool_choice="required")).messages[-1].parts
    assert text[0] == TextPart("draw!")
    assert isinstance(text[1], TextPart)
    _, _, told = text[1].text.partition("\n---\n")
    functions, _, prompt = told.partition("\n")
    nothing = {"type": "object", "properties": {}, "additionalProperties": False}
    assert json.loads(functions) == [DRAW, {**WIPE, "parameters": nothing}]
    assert prompt.startswith("Answer with one JSON object")
    own = (await parsed(tool_prompt="Call!")).messages[-1].parts[1]
    assert isinstance(own, TextPart)
    assert own.text.endswith("\nCall!")


async def test_none() -> None:
    """The model is told nothing and held to nothing; the reply is text."""
    request = await parsed(tool_choice="none")
    assert (len(request.messages[-1].parts), request.grammar) == (1, None)


async def test_whole_call() -> None:
    """OpenAI's shape: arguments are text, and there is no content."""
    async with client(ScriptedRuntime(*script(CALL))) as http:
        choice = (await http.post(PATH, json={**ASK, "logprobs": True})).json()["choices"][0]
    (made,) = choice["message"].pop("tool_calls")
    assert made.pop("id").startswith("call_")
    assert made == {"type": "function", "function": {"name": "draw", "arguments": '{"start": {"x": 1}}'}}
    assert choice["message"] == {"role": "assistant", "content": None}
    assert (choice["finish_reason"], choice["logprobs"]) == ("tool_calls", None)


async def test_streamed_call() -> None:
    """The name first, then the arguments in pieces, all in a list under one index."""
    async with client(ScriptedRuntime(*script(CALL))) as http:
        chunks = events((await http.post(PATH, json={**ASK, "stream": True})).text)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    (begun,) = deltas[1].pop("tool_calls")
    assert begun.pop("id").startswith("call_")
    assert begun == {"index": 0, "type": "function", "function": {"name": "draw", "arguments": ""}}
    assert deltas[2:] == [
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"start"'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": ': {"x": 1}}'}}]},
        {},
    ]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * 4 + ["tool_calls"]


async def test_plain_answer() -> None:
    """The content of the function that is none."""
    async with client(ScriptedRuntime(*script(ANSWER))) as http:
        whole = (await http.post(PATH, json=ASK)).json()["choices"][0]
        chunks = events((await http.post(PATH, json={**ASK, "stream": True})).text)
    assert whole["message"] == {"role": "assistant", "content": "I will not\n"}
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[1:] == [{"content": "I w"}, {"content": "ill not\n"}, {}]
    assert whole["finish_reason"] == chunks[-1]["choices"][0]["finish_reason"] == "stop"


async def test_call_that_was_cut_short() -> None:
    """What there is of the arguments, and why there is no more."""
    async with client(ScriptedRuntime(*script(CALL[:2], FinishReason.LENGTH))) as http:
        choice = (await http.post(PATH, json=ASK)).json()["choices"][0]
        chunks = events((await http.post(PATH, json={**ASK, "stream": True})).text)
    assert choice["message"]["tool_calls"][0]["function"]["arguments"] == '{"start"'
    assert choice["finish_reason"] == chunks[-1]["choices"][0]["finish_reason"] == "length"


async def test_conversation_with_results() -> None:
    """A call becomes text in the form of calls; results and the user's next turn are one turn."""
    messages: list[dict[str, Any]] = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": "draw!"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "1", "type": "function", "function": {"name": "draw", "arguments": '{"a": 1}'}}],
        },
        {"role": "tool", "tool_call_id": "1", "content": "done"},
        {"role": "user", "content": "and?"},
    ]
    request = await parsed(messages=messages, tool_choice="none")
    texts = [
        (each.role, "".join(part.text for part in each.parts if isinstance(part, TextPart)))
        for each in request.messages
    ]
    assert texts == [
        ("system", "be brief"),
        ("user", "draw!"),
        ("assistant", '{"name": "draw", "arguments": {"a": 1}}'),
        ("user", "Result of the call: done\nand?"),
    ]


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(depth):
        schema = {"properties": {"a": schema}}
    return schema


def tool(**function: object) -> dict[str, object]:
    return {"tools": [{"type": "function", "function": {"name": "f", **function}}]}


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"tool_choice": "other"}, "`tool_choice` names the function other, which is not among `tools`"),
        ({"tools": [], "tool_choice": "required"}, "`tool_choice` asks for a call and `tools` is empty"),
        ({"tools": [TOOLS[0], TOOLS[0]]}, "`tools`: each function must have a name of its own"),
        (tool(name="no_tool"), "`tools`: each function must have a name of its own, other than no_tool"),
        ({"response_format": {"type": "json_object"}}, "`tools` and `response_format` cannot be combined"),
        (tool(parameters={"type": "string"}), "`tools`: the parameters of f must be a schema of an object"),
        (tool(parameters=nested(40)), "`tools`: the parameters of f nest deeper than 64 levels"),
        (tool(parameters=nested(70)), "`tools`: the parameters of f nest deeper than 64 levels"),
    ],
)
async def test_tools_that_cannot_be_served(fields: dict[str, object], text: str) -> None:
    """TGI's type of error."""
    async with client(ScriptedRuntime()) as http:
        answer = await http.post(PATH, json={**ASK, **fields})
    assert answer.status_code == 422
    told = answer.json()
    assert told["error"]["message"].startswith(text)
    assert (told["error"]["code"], told["error_type"]) == ("tool_error", "tool_error")
    assert f"`{told['error']['param']}`" in text


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"tool_choice": 5}, "`tool_choice`: send "),
        ({"tool_choice": "a b"}, "`tool_choice`: send "),
        ({"tool_choice": {"function": {}}}, "`tool_choice`: send "),
        ({"tool_choice": {"type": "magic", "function": {"name": "f"}}}, "`tool_choice`: send "),
        ({"tools": [{"type": "magic"}]}, "`tools.0.type`"),
        (tool(name="a b"), "`tools.0.function.name`"),
    ],
)
async def test_wrong_types_name_the_field(fields: dict[str, object], named: str) -> None:
    """As everywhere."""
    async with client(ScriptedRuntime()) as http:
        answer = await http.post(PATH, json={**ASK, **fields})
    assert answer.status_code == 422
    assert named in answer.json()["error"]["message"]
