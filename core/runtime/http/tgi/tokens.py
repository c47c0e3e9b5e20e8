"""TGI's routes that tell the tokens of a prompt: /tokenize and /chat_tokenize."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from runtime.errors import InvalidRequest
from runtime.http.naming import name_fields
from runtime.http.openai.chat_schema import ChatBody
from runtime.http.replies import Replies
from runtime.http.tgi.documentation import ChatTokens, PromptTokenBody
from runtime.http.tgi.schema import GenerateBody
from runtime.prompt.markdown import split_markdown
from runtime.runtime import GenerateRequest, PromptToken


def routes(replies: Replies) -> APIRouter:
    """Return the routes over a runtime."""
    router = APIRouter()

    @router.post("/tokenize", response_model=list[PromptTokenBody])
    async def tokenize(body: GenerateBody, request: Request) -> JSONResponse:
        """Tell the tokens of `inputs`, those of pictures included; `parameters` are ignored."""
        if not body.inputs:
            raise InvalidRequest("`inputs` must not be empty")
        return JSONResponse(_bodies(await replies.tokenize(GenerateRequest(split_markdown(body.inputs)), request)))

    @router.post("/chat_tokenize", response_model=ChatTokens)
    async def chat_tokenize(body: ChatBody, request: Request) -> JSONResponse:
        """Tell what the model reads of a conversation: the text its template makes, and the tokens."""
        name_fields(request, body.names)
        tokens = await replies.tokenize(body.request(), request)
        text = "".join(token.text for token in tokens)
        return JSONResponse({"tokenize_response": _bodies(tokens), "templated_text": text})

    return router


def _bodies(tokens: Sequence[PromptToken]) -> list[dict[str, Any]]:
    return [{"id": token.id, "text": token.text, "start": token.start, "stop": token.stop} for token in tokens]
