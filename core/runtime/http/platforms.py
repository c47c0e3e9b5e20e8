"""Routes that hosting platforms call: SageMaker's /invocations and Vertex AI's /vertex."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Discriminator, Field, Tag

from runtime.errors import InvalidRequest
from runtime.http import sse
from runtime.http.headers import whole_headers
from runtime.http.naming import name_fields
from runtime.http.openai.chat import chat
from runtime.http.openai.chat_schema import ChatBody
from runtime.http.openai.documentation import ChatCompletion
from runtime.http.openai.text import before_stop
from runtime.http.replies import Replies, Reply
from runtime.http.tgi.documentation import Generation
from runtime.http.tgi.generation import asked, compat, prompt_before
from runtime.http.tgi.schema import CompatBody, GenerateBody
from runtime.runtime import GenerateRequest


def _kind(instance: Any) -> str:
    return "chat" if isinstance(instance, dict) and "messages" in instance else "prompt"


Instance = Annotated[Annotated[ChatBody, Tag("chat")] | Annotated[GenerateBody, Tag("prompt")], Discriminator(_kind)]


class VertexBody(BaseModel):
    """Prompts and conversations, each with parameters of its own."""

    instances: list[Instance] = Field(min_length=1)


class Predictions(BaseModel):
    """The text of each reply."""

    predictions: list[str]


def routes(replies: Replies) -> APIRouter:
    """Return the routes over a runtime."""
    router = APIRouter(tags=["Platforms"])

    if replies.options.messages_api_enabled:

        @router.post("/invocations", response_model=ChatCompletion, responses={200: sse.DOCUMENTATION})
        async def invocations(body: ChatBody, request: Request) -> Response:
            """Continue a conversation, as /v1/chat/completions does."""
            return await chat(replies, body, request)

    else:

        @router.post("/invocations", response_model=list[Generation], responses={200: sse.DOCUMENTATION})
        async def compat_invocations(body: CompatBody, request: Request) -> Response:
            """Generate a reply, as the route / does."""
            return await compat(replies, body, request)

    @router.post("/vertex", response_model=Predictions)
    async def vertex(body: VertexBody, request: Request) -> JSONResponse:
        """Generate a reply to each instance."""
        most = replies.options.max_client_batch_size
        if len(body.instances) > most:
            raise InvalidRequest(
                f"`instances` may be at most {most}, got {len(body.instances)};"
                " the operator's limit is --max-client-batch-size"
            )
        chats = [instance for instance in body.instances if isinstance(instance, ChatBody)]
        if len(chats) == len(body.instances):  # beside a prompt, it would not be known whose names to tell
            name_fields(request, chats[0].names)
        requests = [await _asked(instance, replies) for instance in body.instances]
        info, finished = await replies.whole(requests, request)
        prompt_tokens = sum(reply.completion.prompt_tokens for reply in finished)
        headers = whole_headers(requests, finished, prompt_tokens, info, replies.options)
        predictions = [_prediction(*pair) for pair in zip(body.instances, finished, strict=True)]
        return JSONResponse({"predictions": predictions}, headers=headers)

    return router


async def _asked(instance: ChatBody | GenerateBody, replies: Replies) -> GenerateRequest:
    if isinstance(instance, ChatBody):
        return instance.request()
    if instance.parameters.best_of not in (None, 1):
        raise InvalidRequest(f"`best_of` must be 1 in an instance, got {instance.parameters.best_of}")
    return await asked(replies, instance, stream=False)


def _prediction(instance: ChatBody | GenerateBody, reply: Reply) -> str:
    if isinstance(instance, ChatBody):
        return before_stop(reply.completion.text, instance.stop or ())
    return prompt_before(instance) + reply.completion.text
