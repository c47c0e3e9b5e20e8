"""TGI's routes that generate: /generate, /generate_stream and the one that is both, /."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from runtime.http import sse
from runtime.http.headers import stream_headers, whole_headers
from runtime.http.replies import Replies, StartedReplies
from runtime.http.tgi.answers import details_body, stream_event, winner_first
from runtime.http.tgi.checks import check, check_truncate
from runtime.http.tgi.documentation import Generation
from runtime.http.tgi.schema import CompatBody, GenerateBody
from runtime.runtime import GenerateRequest


def routes(replies: Replies) -> APIRouter:
    """Return the routes over a runtime."""
    router = APIRouter()

    @router.post("/generate", response_model=Generation)
    async def generate(body: GenerateBody, request: Request) -> JSONResponse:
        """Generate a whole reply."""
        answer, headers = await whole(replies, body, request)
        return JSONResponse(answer, headers=headers)

    @router.post("/generate_stream", responses={200: sse.DOCUMENTATION}, response_class=Response)
    async def generate_stream(body: GenerateBody, request: Request) -> Response:
        """Generate a reply as server-sent events, one for each token."""
        return await stream(replies, body, request)

    @router.post("/", response_model=list[Generation], responses={200: sse.DOCUMENTATION})
    async def compat_generate(body: CompatBody, request: Request) -> Response:
        """Generate a whole reply, in a list of one, or a stream."""
        return await compat(replies, body, request)

    return router


async def compat(replies: Replies, body: CompatBody, request: Request) -> Response:
    """Answer as TGI's oldest route does; a text model's reply repeats the prompt unless told otherwise."""
    if body.parameters.return_full_text is None:
        body.parameters.return_full_text = not (await replies.info()).vision
    if body.stream:
        return await stream(replies, body, request)
    answer, headers = await whole(replies, body, request)
    return JSONResponse([answer], headers=headers)


async def whole(replies: Replies, body: GenerateBody, request: Request) -> tuple[dict[str, Any], Mapping[str, str]]:
    """Generate one reply, or the best of several; return the answer and its headers."""
    wanted = await asked(replies, body, stream=False)
    given = body.parameters
    info, finished = await replies.whole([wanted] * (given.best_of or 1), request)
    best, *others = winner_first(finished)
    answer: dict[str, Any] = {"generated_text": prompt_before(body) + best.completion.text}
    if given.details or given.decoder_input_details or given.receipt:
        answer["details"] = details_body(best, others)
    return answer, whole_headers([wanted], finished, best.completion.prompt_tokens, info, replies.options)


async def stream(replies: Replies, body: GenerateBody, request: Request) -> Response:
    """Generate a reply as events."""
    wanted = await asked(replies, body, stream=True)
    info, started = await replies.started([wanted], request)
    return sse.EventStream(request, started, _frames(started, body), stream_headers([wanted], info, replies.options))


async def asked(replies: Replies, body: GenerateBody, stream: bool) -> GenerateRequest:
    """Return the request of a body; InvalidRequest when it cannot be served."""
    check(body, replies.options, stream)
    if body.parameters.truncate is not None:
        check_truncate(body.parameters.truncate, (await replies.info()).max_input_tokens)
    return body.request()


def prompt_before(body: GenerateBody) -> str:
    """Return what stands before the reply: the prompt as it came, when it was asked for."""
    return body.inputs if body.parameters.return_full_text else ""


async def _frames(started: StartedReplies, body: GenerateBody) -> AsyncGenerator[bytes, None]:
    index, with_details = 0, body.parameters.details or body.parameters.receipt
    async for _, delta in started:
        for token in delta.tokens:
            index += 1
            last = delta.completion if token is delta.tokens[-1] else None
            yield sse.event(stream_event(index, token, last, prompt_before(body), with_details))
