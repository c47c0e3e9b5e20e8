"""The messages of a conversation.

Templates of vision models know user and assistant, in turns, and nothing of tools. So a call of the assistant becomes
text in the form in which calls are made, and the result of a function becomes the user's.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from runtime.http.json_text import json_text
from runtime.runtime import ImageUrlPart, Message, Part, TextPart

RESULT_ROLES: Final = ("tool", "function")


class TextContent(BaseModel):
    """Text of a message."""

    type: Literal["text"]
    text: str


class ImageUrl(BaseModel):
    """Where a picture is."""

    url: str = Field(description="A `data:` URI.")


class ImageContent(BaseModel):
    """A picture of a message."""

    type: Literal["image_url"]
    image_url: ImageUrl


Content = Annotated[TextContent | ImageContent, Field(discriminator="type")]


def _contents(given: object) -> object:
    if given is None:
        return []
    return [{"type": "text", "text": given}] if isinstance(given, str) else given


def _arguments(given: object) -> object:
    if not isinstance(given, str | dict):
        raise ValueError("send the arguments as the text of a JSON object")
    return given


class CalledFunction(BaseModel):
    """A call the assistant made."""

    name: str
    arguments: Annotated[Any, BeforeValidator(_arguments, json_schema_input_type=str | dict[str, Any])] = Field(
        default="{}", description="JSON, as text; TGI's form is an object."
    )


class ToolCall(BaseModel):
    """A call the assistant made."""

    id: str | None = None
    type: Literal["function"] = "function"
    function: CalledFunction


def _not_empty(field: str) -> dict[str, Any]:
    return {"required": [field], "properties": {field: {"type": ["string", "array"], "minItems": 1}}}


class ChatMessage(BaseModel):
    """One turn."""

    model_config = ConfigDict(json_schema_extra={"anyOf": [_not_empty("content"), _not_empty("tool_calls")]})

    role: str
    # One type after validation: an error of a union would be told once for each of its members.
    content: Annotated[list[Content], BeforeValidator(_contents, json_schema_input_type=str | list[Content] | None)] = (
        Field(default_factory=list)
    )
    tool_calls: list[ToolCall] | None = Field(default=None, description="Of the assistant.")
    tool_call_id: str | None = Field(default=None, description="Of a result; not used.")

    @model_validator(mode="after")
    def _says_something(self) -> ChatMessage:
        if not self.content and not self.tool_calls:
            raise ValueError("a message needs `content`")
        return self

    def parts(self) -> tuple[Part, ...]:
        """Return what the turn says."""
        calls = [TextPart(_call_text(call.function)) for call in self.tool_calls or ()]
        said = tuple(map(_part, self.content))
        return (TextPart("Result of the call: "), *said) if self.role in RESULT_ROLES else (*said, *calls)


def turns(messages: Sequence[ChatMessage]) -> tuple[Message, ...]:
    """Return the conversation in our own types; a function's result is joined with the user's turn beside it."""
    made: list[Message] = []
    after_result = False
    for message in messages:
        is_result = message.role in RESULT_ROLES
        role = "user" if is_result else "system" if message.role == "developer" else message.role
        parts = message.parts()
        if made and role == made[-1].role == "user" and (is_result or after_result):
            made[-1] = Message(role, (*made[-1].parts, TextPart("\n"), *parts))
        else:
            made.append(Message(role, parts))
        after_result = is_result
    return tuple(made)


def with_text(messages: Sequence[Message], text: str) -> tuple[Message, ...]:
    """Append a text to the last message."""
    *before, last = messages
    return (*before, Message(last.role, (*last.parts, TextPart(text))))


def _part(content: TextContent | ImageContent) -> Part:
    if isinstance(content, TextContent):
        return TextPart(content.text)
    return ImageUrlPart(content.image_url.url)


def _call_text(function: CalledFunction) -> str:
    arguments = function.arguments if isinstance(function.arguments, str) else json_text(function.arguments)
    return f'{{"name": {json.dumps(function.name)}, "arguments": {arguments}}}'
