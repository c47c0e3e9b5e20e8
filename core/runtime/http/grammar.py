"""TGI's way to ask for a form of the reply."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, Field

from runtime.http.json_text import json_text
from runtime.runtime import Grammar, GrammarKind

NO_TEXT: Final = "send a JSON schema as an object or as its text"


def _schema(value: object) -> object:
    if not isinstance(value, str | dict):
        raise ValueError(NO_TEXT)
    return value


class JsonGrammar(BaseModel):
    """A JSON text of this schema."""

    type: Literal["json", "json_object"]
    value: Annotated[Any, BeforeValidator(_schema, json_schema_input_type=str | dict[str, Any])] = Field(
        description="A JSON schema, draft 2020-12, as an object or as its text.",
        examples=[{"properties": {"animal": {"type": "string"}}}],
    )

    def grammar(self) -> Grammar:
        """Return it in our own type."""
        return Grammar(GrammarKind.JSON_SCHEMA, self.value if isinstance(self.value, str) else json_text(self.value))


class RegexGrammar(BaseModel):
    """A text that a regular expression matches as a whole."""

    type: Literal["regex"]
    value: str = Field(examples=["(cat|dog)"])

    def grammar(self) -> Grammar:
        """Return it in our own type."""
        return Grammar(GrammarKind.REGEX, self.value)
