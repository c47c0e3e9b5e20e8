"""What /v1/chat/completions answers, for the documentation; the answers themselves are made in `chat_choice`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from runtime.http.openai.completions_schema import Usage


class CallBody(BaseModel):
    """A function and its arguments."""

    name: str
    arguments: str = Field(description="JSON, as text.")


class ToolCallBody(BaseModel):
    """A call the client is asked to make."""

    id: str
    type: Literal["function"]
    function: CallBody


class MessageBody(BaseModel):
    """A turn of the assistant."""

    role: Literal["assistant"]
    content: str | None
    tool_calls: list[ToolCallBody] = Field(default_factory=list)


class CandidateLogprob(BaseModel):
    """A token that was chosen, or might have been."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(CandidateLogprob):
    """A token and its rivals."""

    top_logprobs: list[CandidateLogprob]


class ChatLogprobs(BaseModel):
    """Log-probabilities of a reply's tokens."""

    content: list[TokenLogprob]
    refusal: None


class ChatChoiceBody(BaseModel):
    """A reply."""

    index: int
    message: MessageBody
    logprobs: ChatLogprobs | None
    finish_reason: Literal["stop", "length", "tool_calls"]


class ChatCompletion(BaseModel):
    """Replies to a conversation."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoiceBody]
    usage: Usage
    receipt: dict[str, Any] | None = Field(default=None, description="How it came about; absent unless asked for.")
