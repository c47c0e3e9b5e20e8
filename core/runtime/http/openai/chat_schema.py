"""What the route /v1/chat/completions takes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from runtime.errors import InvalidRequest
from runtime.http.grammar import JsonGrammar, RegexGrammar
from runtime.http.json_text import json_text
from runtime.http.naming import Names
from runtime.http.openai.conversation import ChatMessage, turns, with_text
from runtime.http.openai.schema import CompletionFields, TokenCount
from runtime.http.openai.tools import Choice, Tool, ToolError, ToolUse
from runtime.http.options import HttpOptions
from runtime.parameters import MOST_CANDIDATES
from runtime.runtime import GenerateRequest, Grammar, GrammarKind, StoppingParameters


class TextFormat(BaseModel):
    """Any text."""

    type: Literal["text"]

    def grammar(self) -> None:
        """There is none."""


class JsonObjectFormat(BaseModel):
    """A JSON object; TGI's form names a schema in `value`."""

    type: Literal["json_object"]
    value: dict[str, Any] | None = None

    def grammar(self) -> Grammar:
        """Return it in our own type."""
        return Grammar(GrammarKind.JSON_SCHEMA, json_text(self.value or {"type": "object"}))


class JsonSchema(BaseModel):
    """A named JSON schema."""

    model_config = ConfigDict(populate_by_name=True)

    name: str | None = None
    definition: dict[str, Any] = Field(alias="schema")


class JsonSchemaFormat(BaseModel):
    """A JSON text of a schema."""

    type: Literal["json_schema"]
    json_schema: JsonSchema

    def grammar(self) -> Grammar:
        """Return it in our own type."""
        return Grammar(GrammarKind.JSON_SCHEMA, json_text(self.json_schema.definition))


class TgiJsonFormat(JsonGrammar):
    """TGI's form of a JSON text of a schema."""

    type: Literal["json"]


Format = Annotated[
    TextFormat | JsonObjectFormat | JsonSchemaFormat | TgiJsonFormat | RegexGrammar, Field(discriminator="type")
]


class ChatBody(CompletionFields):
    """A conversation to continue."""

    messages: list[ChatMessage] = Field(min_length=1)
    max_tokens: TokenCount | None = Field(default=None, description="Tokens to generate; null fills the context.")
    max_completion_tokens: TokenCount | None = Field(
        default=None, description="The newer name of max_tokens, and wins."
    )
    logprobs: bool | None = Field(default=None, description="Tell the log-probability of each token.")
    top_logprobs: int | None = Field(
        default=None, ge=0, le=MOST_CANDIDATES, description="Candidates to tell with each token; needs `logprobs`."
    )
    response_format: Format | None = Field(default=None, description="A form the reply must have.")
    tools: list[Tool] | None = Field(default=None, max_length=128, description="Functions the model may call.")
    tool_choice: Choice | None = Field(default=None, description="Whether and which function is called.")
    tool_prompt: str | None = Field(default=None, description="TGI's: what the model is told about the tools.")
    functions: list[Any] | None = Field(
        default=None, description="Must be empty: use `tools`.", json_schema_extra={"maxItems": 0}
    )

    @property
    def names(self) -> Names:
        """What fields of TGI are called here, of two names the one that counts."""
        return {
            "inputs": "messages",
            "max_new_tokens": "max_tokens" if self.max_completion_tokens is None else "max_completion_tokens",
            "top_n_tokens": "top_logprobs",
            "grammar": "tools" if self.response_format is None else "response_format",
        }

    def tool_use(self) -> ToolUse | None:
        """Return the functions that may be called."""
        return ToolUse.of(self.tools or (), self.tool_choice, self.tool_prompt)

    def request(self) -> GenerateRequest:
        """Return what is asked for, once."""
        self.check()
        if self.functions:
            raise InvalidRequest("`functions` is not served; send them as `tools`")
        if self.top_logprobs and not self.logprobs:
            raise InvalidRequest("`top_logprobs` needs `logprobs` to be true")
        messages = turns(self.messages)
        grammar = None if self.response_format is None else self.response_format.grammar()
        use = self.tool_use()
        if use is not None:
            if grammar is not None:
                raise ToolError("`tools` and `response_format` cannot be combined; leave one of them out")
            messages, grammar = with_text(messages, use.text()), use.grammar()
        return GenerateRequest(
            messages=messages,
            sampling=self.sampling(),
            stopping=StoppingParameters(
                max_new_tokens=self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens,
                stop=tuple(self.stop or ()),
            ),
            grammar=grammar,
            top_n_tokens=self.top_logprobs or 0,
            receipt=bool(self.receipt),
        )

    def requests(self, options: HttpOptions) -> list[GenerateRequest]:
        """Return what is asked for, `n` times."""
        return self.each([self.request()], options)
