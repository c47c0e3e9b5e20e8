"""OpenAI's chat route, as far as a conversation with pictures needs it."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

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


class ChatMessage(BaseModel):
    """One turn."""

    role: str
    content: str | list[Content]

    def message(self) -> Message:
        """Return the turn in our own types."""
        contents = [TextContent(type="text", text=self.content)] if isinstance(self.content, str) else self.content
        return Message(self.role, tuple(map(_part, contents)))


class ChatBody(BaseModel):
    """A conversation to continue."""

    model: str = Field(default="", description="Ignored: one model is served.")
    messages: list[ChatMessage] = Field(min_length=1)
    max_tokens: int | None = Field(default=None, description="Tokens to generate; null fills the context.")
    max_completion_tokens: int | None = Field(default=None, description="The newer name of max_tokens, and wins.")
    temperature: float = Field(default=1.0, description="0 is greedy.")
    top_p: float = 1.0
    seed: int | None = None
    stop: str | list[str] = Field(default_factory=list)
    stream: bool = False

    def request(self) -> GenerateRequest:
        """Return what is asked for."""
        greedy = self.temperature == 0
        return GenerateRequest(
            messages=tuple(message.message() for message in self.messages),
            sampling=SamplingParameters(
                do_sample=not greedy,
                temperature=1.0 if greedy else self.temperature,
                top_p=1.0 if greedy else self.top_p,
                seed=self.seed,
            ),
            stopping=StoppingParameters(
                max_new_tokens=self.max_completion_tokens or self.max_tokens,
                stop=(self.stop,) if isinstance(self.stop, str) else tuple(self.stop),
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
            deltas = await started_reply(runtime, body.request(), request)
            return sse.response(_frames(deltas, {**head, "object": "chat.completion.chunk"}))
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


async def _frames(deltas: AsyncGenerator[Delta, None], head: dict[str, Any]) -> AsyncGenerator[bytes, None]:
    try:
        yield sse.event({**head, "choices": _choices({"role": "assistant", "content": ""}, None)})
        async with aclosing(deltas):
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
