"""One choice of a chat's answer: its chunks as they come, or the whole."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from runtime.http.openai.call import CallReader
from runtime.http.openai.chat_schema import ChatBody
from runtime.http.openai.envelope import FINISH_REASONS
from runtime.http.openai.logprobs import chat_logprobs
from runtime.http.openai.text import Piece, ReplyText, before_stop
from runtime.http.replies import Reply
from runtime.runtime import Delta, Token


class ChatChoice:
    """Turns the events of one reply into OpenAI's form."""

    def __init__(self, index: int, body: ChatBody, with_tools: bool) -> None:
        self._index = index
        self._top = (body.top_logprobs or 0) if body.logprobs and not with_tools else None
        self._stops = body.stop or ()
        self._text = ReplyText(self._stops)
        self._call = CallReader() if with_tools else None
        self._call_told = False

    def opening(self) -> dict[str, Any]:
        """Return the first chunk's choice, which tells who speaks."""
        return self._chunk({"role": "assistant", "content": ""})

    def chunks(self, delta: Delta) -> list[dict[str, Any]]:
        """Return the choices that an event makes: none while its text is in doubt."""
        piece = self._text.push(delta.tokens)
        if delta.completion is None:
            return self._told(piece)
        rest = self._text.finish()
        told = self._told(Piece(piece.text + rest.text, piece.tokens + rest.tokens))
        unread = self._call.finish() if self._call else ""
        if unread:
            told.append(self._chunk({"content": unread}))
        return [*told, self._chunk({}, reason=self._reason(delta.completion.finish_reason, self._text.stopped))]

    def whole(self, reply: Reply) -> dict[str, Any]:
        """Return the choice of a finished reply."""
        text = before_stop(reply.completion.text, self._stops)
        reason = self._reason
        cut = len(text) < len(reply.completion.text)
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if self._call is not None:
            said = self._call.push(text) + self._call.finish()
            message["content"] = None if self._call.calls else said
            if self._call.calls:
                function = {"name": self._call.name, "arguments": said}
                message["tool_calls"] = [{"id": _call_id(), "type": "function", "function": function}]
        told = (*self._text.push(reply.tokens).tokens, *self._text.finish().tokens)
        return {
            "index": self._index,
            "message": message,
            "logprobs": self._logprobs(told),
            "finish_reason": reason(reply.completion.finish_reason, cut),
        }

    def _told(self, piece: Piece) -> list[dict[str, Any]]:
        if self._call is not None:
            return self._told_by_call(piece.text, self._call)
        if piece.text or (piece.tokens and self._top is not None):
            return [self._chunk({"content": piece.text}, piece.tokens)]
        return []

    def _told_by_call(self, text: str, call: CallReader) -> list[dict[str, Any]]:
        said = call.push(text)
        if not call.calls:
            return [self._chunk({"content": said})] if said else []
        chunks = []
        if not self._call_told:
            self._call_told = True
            function = {"name": call.name, "arguments": ""}
            begun = {"index": 0, "id": _call_id(), "type": "function", "function": function}
            chunks.append(self._chunk({"tool_calls": [begun]}))
        if said:
            chunks.append(self._chunk({"tool_calls": [{"index": 0, "function": {"arguments": said}}]}))
        return chunks

    def _reason(self, reason: Any, cut: bool) -> str:
        if self._call is not None and self._call.calls and self._call.complete:
            return "tool_calls"
        return "stop" if cut else FINISH_REASONS[reason]

    def _logprobs(self, tokens: Sequence[Token]) -> dict[str, Any] | None:
        return None if self._top is None else chat_logprobs(tokens, self._top)

    def _chunk(self, delta: dict[str, Any], tokens: Sequence[Token] = (), reason: str | None = None) -> dict[str, Any]:
        logprobs = self._logprobs(tokens) if tokens else None
        return {"index": self._index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}


def _call_id() -> str:
    return f"call_{uuid.uuid4().hex}"
