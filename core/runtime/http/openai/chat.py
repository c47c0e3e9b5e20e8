"""OpenAI's route for conversations: /v1/chat/completions."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from runtime.http import sse
from runtime.http.headers import stream_headers, whole_headers
from runtime.http.naming import name_fields
from runtime.http.openai.chat_choice import ChatChoice
from runtime.http.openai.chat_schema import ChatBody
from runtime.http.openai.documentation import ChatCompletion
from runtime.http.openai.envelope import envelope, usage
from runtime.http.receipts import receipt_field
from runtime.http.replies import Replies, StartedReplies
from runtime.runtime import Completion


def routes(replies: Replies) -> APIRouter:
    """Return the route over a runtime."""
    router = APIRouter()

    @router.post("/chat/completions", response_model=ChatCompletion, responses={200: sse.DOCUMENTATION})
    async def chat_completions(body: ChatBody, request: Request) -> Response:
        """Continue a conversation, as one object or as server-sent events."""
        return await chat(replies, body, request)

    return router


async def chat(replies: Replies, body: ChatBody, request: Request) -> Response:
    """Answer a conversation."""
    name_fields(request, body.names)
    asked = body.requests(replies.options)
    with_tools = body.tool_use() is not None
    choices = [ChatChoice(index, body, with_tools) for index in range(len(asked))]
    if body.stream:
        info, started = await replies.started(asked, request)
        head = envelope("chat.completion.chunk", body.model, info, "chatcmpl")
        headers = stream_headers(asked, info, replies.options)
        return sse.EventStream(request, started, _frames(started, choices, body, head), headers, end=sse.DONE)
    info, finished = await replies.whole(asked, request)
    counts = usage([reply.completion for reply in finished], len(asked))
    answer = {
        **envelope("chat.completion", body.model, info, "chatcmpl"),
        "choices": [choice.whole(reply) for choice, reply in zip(choices, finished, strict=True)],
        "usage": counts,
        **receipt_field(finished[0].completion),
    }
    headers = whole_headers(asked[:1], finished, counts["prompt_tokens"], info, replies.options)
    return JSONResponse(answer, headers=headers)


async def _frames(
    started: StartedReplies, choices: Sequence[ChatChoice], body: ChatBody, head: dict[str, Any]
) -> AsyncGenerator[bytes, None]:
    completions: dict[int, Completion] = {}
    usage_field: dict[str, Any] = {"usage": None} if body.include_usage else {}
    for choice in choices:
        yield sse.event({**head, "choices": [choice.opening()], **usage_field})
    async for index, delta in started:
        for chunk in choices[index].chunks(delta):
            receipt = receipt_field(delta.completion) if chunk["finish_reason"] else {}
            yield sse.event({**head, "choices": [chunk], **usage_field, **receipt})
        if delta.completion is not None:
            completions[index] = delta.completion
    if body.include_usage:
        ended = [completions[index] for index in sorted(completions)]
        yield sse.event({**head, "choices": [], "usage": usage(ended, len(choices))})
