"""OpenAI's chat route, as far as a conversation with pictures needs it."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, BeforeValidator, Field

from runtime.errors import RuntimeServiceError
from runtime.http import sse
from runtime.http.errors import error_body
from runtime.http.replies import started_reply, whole_reply
from runtime.runtime import (
    Completion,
    Delta,
    FinishReason,
    GenerateRequest,
    ImageUrlPart,
    Message,
    Part,
    Runtime,
    SamplingParameters,
    StoppingParameters,
    TextPart,
)

FINISH_REASONS = {FinishReason.LENGTH: "length", FinishReason.EOS_TOKEN: "stop", FinishReason.STOP_SEQUENCE: "stop"}


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
    return [{"type": "text", "text": given}] if isinstance(given, str) else given


def _stops(given: object) -> object:
    return [given] if isinstance(given, str) else given


class ChatMessage(BaseModel):
    """One turn."""

    role: str
    # One type after validation: an error of a union would be told once for each of its members.
    content: Annotated[list[Content], BeforeValidator(_contents, json_schema_input_type=str | list[Content])]

    def message(self) -> Message:
        """Return the turn in our own types."""
        return Message(self.role, tuple(map(_part, self.content)))


class ChatBody(BaseModel):
    """A conversation to continue; null is as good as absent, as in OpenAI's reference."""

    # The bound also makes the text valid Unicode, which an answer that repeats it must be.
    model: str = Field(default="", max_length=1024, description="Ignored: one model is served.")
    messages: list[ChatMessage] = Field(min_length=1)
    max_tokens: int | None = Field(default=None, description="Tokens to generate; null fills the context.")
    max_completion_tokens: int | None = Field(default=None, description="The newer name of max_tokens, and wins.")
    temperature: float | None = Field(default=None, description="0 is greedy; 1 when absent.")
    top_p: float | None = None
    seed: int | None = None
    stop: Annotated[list[str] | None, BeforeValidator(_stops, json_schema_input_type=str | list[str] | None)] = None
    stream: bool | None = None

    def request(self) -> GenerateRequest:
        """Return what is asked for."""
        temperature = 1.0 if self.temperature is None else self.temperature
        greedy = temperature == 0
        return GenerateRequest(
            messages=tuple(message.message() for message in self.messages),
            sampling=SamplingParameters(
                do_sample=not greedy,
                temperature=1.0 if greedy else temperature,
                top_p=1.0 if greedy or self.top_p is None else self.top_p,
                seed=self.seed,
            ),
            stopping=StoppingParameters(
                max_new_tokens=self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens,
                stop=tuple(self.stop or ()),
            ),
        )


def routes(runtime: Runtime) -> APIRouter:
    """Return the routes over a runtime."""
    router = APIRouter(prefix="/v1", tags=["OpenAI"])

    @router.post("/chat/completions")
    async def chat_completions(body: ChatBody, request: Request) -> Response:
        """Continue a conversation, as one object or as server-sent events."""
        head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": body.model}
        if body.stream:
            started = await started_reply(runtime, body.request(), request)
            return sse.EventStream(started, _frames(started, {**head, "object": "chat.completion.chunk"}))
        reply = await whole_reply(runtime, body.request(), request)
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": reply.completion.text},
            "finish_reason": FINISH_REASONS[reply.completion.finish_reason],
        }
        usage = _usage(reply.completion)
        return JSONResponse({**head, "object": "chat.completion", "choices": [choice], "usage": usage})

    return router


def _part(content: TextContent | ImageContent) -> Part:
    if isinstance(content, TextContent):
        return TextPart(content.text)
    return ImageUrlPart(content.image_url.url)


def _usage(completion: Completion) -> dict[str, int]:
    return {
        "prompt_tokens": completion.prompt_tokens,
        "completion_tokens": completion.generated_tokens,
        "total_tokens": completion.prompt_tokens + completion.generated_tokens,
    }


async def _frames(deltas: AsyncIterator[Delta], head: dict[str, Any]) -> AsyncGenerator[bytes, None]:
    try:
        yield sse.event({**head, "choices": _choices({"role": "assistant", "content": ""}, None)})
        async for delta in deltas:
            text = "".join(token.text for token in delta.tokens if not token.special)
            if text:
                yield sse.event({**head, "choices": _choices({"content": text}, None)})
            if delta.completion is not None:
                reason = FINISH_REASONS[delta.completion.finish_reason]
                yield sse.event({**head, "choices": _choices({}, reason)})
    except RuntimeServiceError as error:  # the status is sent: all that is left is an event
        yield sse.event(error_body(error))
    yield sse.DONE


def _choices(delta: dict[str, str], finish_reason: str | None) -> Sequence[dict[str, Any]]:
    return [{"index": 0, "delta": delta, "finish_reason": finish_reason}]
