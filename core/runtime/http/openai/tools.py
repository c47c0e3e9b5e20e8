"""Functions a model may call: told in the prompt, and held to by a grammar.

A reply with tools is always one JSON object `{"name": ..., "arguments": {...}}`: the grammar lets nothing else pass.
Where the model may also answer in plain words (`auto`), one more function stands among the others, NO_TOOL, whose only
argument is the answer; the client gets it as plain content. TGI does the same (its function is `notify_error`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, Field

from runtime.errors import InvalidRequest
from runtime.http.json_text import json_text
from runtime.runtime import Grammar, GrammarKind

NO_TOOL: Final = "no_tool"
PROMPT: Final = (
    'Answer with one JSON object, {"name": the name of a function above, "arguments": its arguments}, that calls the'
    " function which serves the request best."
)
NAME: Final = r"^[a-zA-Z0-9_-]{1,64}$"
CHOICES: Final = '"none", "auto", "required" or {"type": "function", "function": {"name": the name of a function}}'
DEEPEST_SCHEMA: Final = 64
"""Levels of objects and lists in the schema of a function's arguments."""
_ANSWER: Final = {
    "name": NO_TOOL,
    "description": "Answer in plain words, when no other function is needed.",
    "parameters": {
        "type": "object",
        "properties": {"content": {"type": "string"}},
        "required": ["content"],
        "additionalProperties": False,
    },
}


class ToolError(InvalidRequest):
    """The tools of a request, or the choice among them, cannot be served."""

    error_type = "tool_error"
    openai_code = "tool_error"


class Function(BaseModel):
    """A function of the client."""

    name: str = Field(pattern=NAME)
    description: str | None = None
    parameters: dict[str, Any] | None = Field(default=None, description="JSON schema of the arguments.")


class Tool(BaseModel):
    """Something a model may use."""

    type: Literal["function"]
    function: Function


class FunctionName(BaseModel):
    """Which function."""

    name: str = Field(pattern=NAME)


class NamedTool(BaseModel):
    """One function that must be called."""

    type: Literal["function"] = "function"
    function: FunctionName


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Whether and which functions may be called."""

    mode: Literal["none", "auto", "required", "named"]
    name: str | None = None


def _choice(given: object) -> object:
    """Read OpenAI's forms, and TGI's: the bare name of a function."""
    match given:
        case "none" | "auto" | "required":
            return ToolChoice(given)
        case {"type": kind} if kind != "function":
            pass
        case str(name) | {"function": {"name": str(name)}} if re.fullmatch(NAME, name):
            return ToolChoice("named", name)
    raise ValueError(f"send {CHOICES}")


Choice = Annotated[
    ToolChoice,
    BeforeValidator(_choice, json_schema_input_type=Literal["none", "auto", "required"] | NamedTool),
]


@dataclass(frozen=True, slots=True)
class ToolUse:
    """The functions that a reply may call."""

    functions: tuple[dict[str, Any], ...]
    """Name, description and parameters of each."""
    prompt: str
    """What the model is told after them."""

    @classmethod
    def of(cls, tools: Sequence[Tool], choice: ToolChoice | None, prompt: str | None) -> ToolUse | None:
        """Return what a request allows; None when there are no tools, or none may be used. Raises ToolError."""
        names = [tool.function.name for tool in tools]
        if choice is not None and choice.mode in ("required", "named") and not tools:
            raise ToolError("`tool_choice` asks for a call and `tools` is empty; send the functions")
        if len(set(names)) < len(names) or NO_TOOL in names:
            raise ToolError(f"`tools`: each function must have a name of its own, other than {NO_TOOL}")
        if choice is not None and choice.mode == "named" and choice.name not in names:
            raise ToolError(f"`tool_choice` names the function {choice.name}, which is not among `tools`; add it")
        if not tools or (choice is not None and choice.mode == "none"):
            return None
        wanted = choice.name if choice is not None else None
        functions = [_described(tool.function) for tool in tools if wanted in (None, tool.function.name)]
        if choice is None or choice.mode == "auto":
            functions.append(_ANSWER)
        return cls(tuple(functions), PROMPT if prompt is None else prompt)

    def text(self) -> str:
        """Return what is appended to the conversation's last message, as TGI does for templates without tools."""
        return f"\n---\n{json.dumps(self.functions, ensure_ascii=False)}\n{self.prompt}"

    def grammar(self) -> Grammar:
        """Return the form of a call: a JSON schema with a branch for each function."""
        branches = [_branch(index, function["name"]) for index, function in enumerate(self.functions)]
        arguments = {f"arguments_{index}": _arguments(index, each) for index, each in enumerate(self.functions)}
        return Grammar(GrammarKind.JSON_SCHEMA, json_text({"$defs": arguments, "anyOf": branches}))


def _described(function: Function) -> dict[str, Any]:
    described: dict[str, Any] = {"name": function.name}
    if function.description is not None:
        described["description"] = function.description
    nothing = {"properties": {}, "additionalProperties": False}
    parameters = {"type": "object", **(nothing if function.parameters is None else function.parameters)}
    if parameters["type"] != "object":
        raise ToolError(f"`tools`: the parameters of {function.name} must be a schema of an object")
    _check_depth(parameters, function.name)
    return {**described, "parameters": parameters}


def _check_depth(schema: object, name: str, depth: int = 0) -> None:
    if depth > DEEPEST_SCHEMA:
        raise ToolError(f"`tools`: the parameters of {name} nest deeper than {DEEPEST_SCHEMA} levels; simplify them")
    children = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
    for child in children:
        _check_depth(child, name, depth + 1)


def _branch(index: int, name: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"name": {"const": name}, "arguments": {"$ref": f"#/$defs/arguments_{index}"}},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _arguments(index: int, function: dict[str, Any]) -> Any:
    parameters = {key: value for key, value in function["parameters"].items() if key not in ("$schema", "$id")}
    return _moved(parameters, f"#/$defs/arguments_{index}")


def _moved(schema: Any, place: str) -> Any:
    """Let references of a schema to its own parts follow it to another place."""
    if isinstance(schema, list):
        return [_moved(each, place) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: place + value[1:]
        if key == "$ref" and isinstance(value, str) and value.startswith("#")
        else _moved(value, place)
        for key, value in schema.items()
    }
