"""OpenAI's route for plain prompts: /v1/completions."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from runtime.http import sse
from runtime.http.headers import stream_headers, whole_headers
from runtime.http.naming import name_fields
from runtime.http.openai.completions_schema import NAMES, CompletionsBody, TextCompletion
from runtime.http.openai.envelope import FINISH_REASONS, envelope, usage
from runtime.http.openai.logprobs import text_logprobs
from runtime.http.openai.text import Piece, ReplyText, before_stop
from runtime.http.receipts import receipt_field
from runtime.http.replies import Replies, Reply, StartedReplies
from runtime.runtime import Completion, GenerateRequest, PrefillToken, Token, TokensPart


def routes(replies: Replies) -> APIRouter:
    """Return the route over a runtime."""
    router = APIRouter()

    @router.post("/completions", response_model=TextCompletion, responses={200: sse.DOCUMENTATION})
    async def completions(body: CompletionsBody, request: Request) -> Response:
        """Continue prompts, as one object or as server-sent events whose choices are interleaved."""
        name_fields(request, NAMES)
        asked = body.requests(replies.options)
        echoes = await _echoes(replies, body, asked, request)
        kind = "text_completion"
        if body.stream:
            info, started = await replies.started(asked, request)
            head = envelope(kind, body.model, info, "cmpl")
            headers = stream_headers(asked, info, replies.options)
            return sse.EventStream(request, started, _frames(started, body, echoes, head), headers, end=sse.DONE)
        info, finished = await replies.whole(asked, request)
        counts = usage([reply.completion for reply in finished], body.n or 1)
        choices = [
            _whole_choice(index, reply, body, echo)
            for index, (reply, echo) in enumerate(zip(finished, echoes, strict=True))
        ]
        answer = {
            **envelope(kind, body.model, info, "cmpl"),
            "choices": choices,
            "usage": counts,
            **receipt_field(finished[0].completion),
        }
        headers = whole_headers(asked, finished, counts["prompt_tokens"], info, replies.options)
        return JSONResponse(answer, headers=headers)

    return router


async def _echoes(
    replies: Replies, body: CompletionsBody, asked: Sequence[GenerateRequest], request: Request
) -> list[str]:
    """Return what stands before each reply: nothing, or the prompt; token ids are turned into their texts."""
    if not body.echo:
        return [""] * len(asked)
    echoes: list[str] = []
    for prompt, first in zip(body.prompt, asked[:: body.n or 1], strict=True):
        is_ids = any(isinstance(part, TokensPart) for part in first.parts)
        text = "".join(token.text for token in (await replies.tokenize(first, request)).tokens) if is_ids else prompt
        echoes += [text] * (body.n or 1)
    return echoes


def _whole_choice(index: int, reply: Reply, body: CompletionsBody, echo: str) -> dict[str, Any]:
    choice = _Choice(index, body, echo)
    tokens = (*choice.push(reply.tokens).tokens, *choice.finish().tokens)
    text = before_stop(reply.completion.text, body.stop or ())
    cut = len(text) < len(reply.completion.text)
    reason = "stop" if cut else FINISH_REASONS[reply.completion.finish_reason]
    return choice.body(echo + text, tokens, reason, reply.prefill, len(echo))


async def _frames(
    started: StartedReplies, body: CompletionsBody, echoes: Sequence[str], head: dict[str, Any]
) -> AsyncGenerator[bytes, None]:
    choices = [_Choice(index, body, echo) for index, echo in enumerate(echoes)]
    completions: dict[int, Completion] = {}
    usage_field: dict[str, Any] = {"usage": None} if body.include_usage else {}
    async for index, delta in started:
        for choice in choices[index].chunks(delta.tokens, delta.prefill, delta.completion):
            receipt = receipt_field(delta.completion) if choice["finish_reason"] else {}
            yield sse.event({**head, "choices": [choice], **usage_field, **receipt})
        if delta.completion is not None:
            completions[index] = delta.completion
    if body.include_usage:
        ended = [completions[index] for index in sorted(completions)]
        yield sse.event({**head, "choices": [], "usage": usage(ended, body.n or 1)})


class _Choice:
    """One choice of an answer."""

    def __init__(self, index: int, body: CompletionsBody, echo: str) -> None:
        self._index = index
        self._logprobs = body.logprobs
        self._text = ReplyText(body.stop or ())
        self._echo = echo
        self._offset = len(echo)

    def push(self, tokens: Sequence[Token]) -> Piece:
        return self._text.push(tokens)

    def finish(self) -> Piece:
        return self._text.finish()

    def chunks(
        self, tokens: Sequence[Token], prefill: Sequence[PrefillToken], completion: Completion | None
    ) -> list[dict[str, Any]]:
        """Return the choices that new tokens make: none while their text is in doubt."""
        chunks = []
        echo, self._echo = self._echo, ""
        if echo:
            chunks.append(self.body(echo, (), None, prefill, 0))
        piece = self._text.push(tokens)
        reason = None
        if completion is not None:
            rest = self._text.finish()
            piece = Piece(piece.text + rest.text, piece.tokens + rest.tokens)
            reason = "stop" if self._text.stopped else FINISH_REASONS[completion.finish_reason]
        if piece.text or reason or (piece.tokens and self._logprobs is not None):
            chunks.append(self.body(piece.text, piece.tokens, reason, (), self._offset))
            self._offset += len(piece.text)
        return chunks

    def body(
        self,
        text: str,
        tokens: Sequence[Token],
        reason: str | None,
        prefill: Sequence[PrefillToken],
        offset: int,
    ) -> dict[str, Any]:
        """Return a choice; `offset` is where the first of its generated tokens stands."""
        logprobs = None
        if self._logprobs is not None:
            logprobs = text_logprobs(tokens, self._logprobs, offset)
            if prefill:
                of_prompt = text_logprobs(prefill, self._logprobs, 0)
                logprobs = {name: _joined(of_prompt[name], logprobs[name]) for name in logprobs}
        return {"index": self._index, "text": text, "logprobs": logprobs, "finish_reason": reason}


def _joined(first: list[Any] | None, second: list[Any] | None) -> list[Any] | None:
    return None if first is None or second is None else first + second
