"""What TGI's routes answer, for the documentation; the answers themselves are made in `answers`."""

from __future__ import annotations

from enum import Enum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from runtime.runtime import FinishReason

FinishReasonName = Enum("FinishReasonName", {reason.name: reason.value for reason in FinishReason}, type=str)  # type: ignore[misc]


class PrefillTokenBody(BaseModel):
    """A token of the prompt."""

    id: int
    text: str
    logprob: float | None = Field(description="Null for the first.")


class TokenBody(BaseModel):
    """A generated token."""

    id: int
    text: str
    logprob: float | None
    special: bool = Field(description="Whether it is a control token and no text.")


class ImageCostBody(BaseModel):
    """What one picture adds to a prompt."""

    tiles: int = Field(description="Squares the vision tower sees.")
    tokens: int


class PromptCostBody(BaseModel):
    """What a prompt costs; it has `cached_tokens + bucket - padding` tokens."""

    images: list[ImageCostBody]
    cached_tokens: int = Field(description="Left computed by an earlier prompt that begins alike.")
    bucket: int | None = Field(description="Tokens computed, padding included. Null: not known.")
    padding: int | None


class Ending(BaseModel):
    """Why and where a reply ended, and what its prompt cost."""

    finish_reason: FinishReasonName
    generated_tokens: int
    seed: int | None = Field(description="Null for a greedy reply.")
    prompt_cost: PromptCostBody
    receipt: dict[str, Any] | None = Field(default=None, description="How it came about; absent unless asked for.")
    prefill: list[PrefillTokenBody]
    tokens: list[TokenBody]
    top_tokens: list[list[TokenBody]] = Field(default_factory=list)


class Sequence(Ending):
    """A reply that best_of did not choose."""

    generated_text: str


class Details(Ending):
    """How a reply came about."""

    best_of_sequences: list[Sequence] = Field(default_factory=list)


class Generation(BaseModel):
    """A reply."""

    model_config = ConfigDict(title="GenerateResponse")

    generated_text: str
    details: Details | None = Field(default=None, description="Absent unless asked for.")


class PromptTokenBody(BaseModel):
    """A token of a prompt."""

    id: int
    text: str
    start: int | None = Field(description="Where it stands in the text, characters.")
    stop: int | None


class ChatTokens(BaseModel):
    """A conversation as the model reads it."""

    templated_text: str
    tokenize_response: list[PromptTokenBody]
    prompt_cost: PromptCostBody
