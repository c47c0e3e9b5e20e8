"""TGI's routes that tell the tokens of a prompt: /tokenize and /chat_tokenize."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from runtime.errors import InvalidRequest
from runtime.http.headers import PROMPT_HEADERS, prompt_headers
from runtime.http.naming import name_fields
from runtime.http.openai.chat_schema import ChatBody
from runtime.http.replies import Replies
from runtime.http.tgi.answers import cost_body
from runtime.http.tgi.documentation import ChatTokens, PromptTokenBody
from runtime.http.tgi.schema import GenerateBody
from runtime.prompt.markdown import split_markdown
from runtime.runtime import GenerateRequest, PromptToken


def routes(replies: Replies) -> APIRouter:
    """Return the routes over a runtime."""
    router = APIRouter()

    @router.post("/tokenize", response_model=list[PromptTokenBody], responses={200: {"headers": PROMPT_HEADERS}})
    async def tokenize(body: GenerateBody, request: Request) -> JSONResponse:
        """Tell the tokens of `inputs`, those of pictures included; `parameters` are ignored."""
        if not body.inputs:
            raise InvalidRequest("`inputs` must not be empty")
        told = await replies.tokenize(GenerateRequest(split_markdown(body.inputs)), request)
        return JSONResponse(_bodies(told.tokens), headers=prompt_headers(told))

    @router.post("/chat_tokenize", response_model=ChatTokens)
    async def chat_tokenize(body: ChatBody, request: Request) -> JSONResponse:
        """Tell what the model reads of a conversation: the text its template makes, and the tokens."""
        name_fields(request, body.names)
        told = await replies.tokenize(body.request(), request)
        text = "".join(token.text for token in told.tokens)
        answer = {"tokenize_response": _bodies(told.tokens), "templated_text": text}
        return JSONResponse({**answer, "prompt_cost": cost_body(told.cost)})

    return router


def _bodies(tokens: Sequence[PromptToken]) -> list[dict[str, Any]]:
    return [{"id": token.id, "text": token.text, "start": token.start, "stop": token.stop} for token in tokens]
