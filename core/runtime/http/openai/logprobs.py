"""Log-probabilities in the two forms of OpenAI."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from runtime.runtime import Candidate, PrefillToken, Token

LOWEST: Final = -9999.0
"""What OpenAI tells for a token that cannot be; JSON has no infinity."""


def chat_logprobs(tokens: Sequence[Token], top: int) -> dict[str, Any]:
    """Return the log-probabilities of a chat's tokens, each with its `top` candidates."""
    return {
        "content": [
            {**_entry(token), "top_logprobs": [_entry(candidate) for candidate in token.top[:top]]} for token in tokens
        ],
        "refusal": None,
    }


def text_logprobs(tokens: Sequence[Token | PrefillToken], top: int, offset: int) -> dict[str, Any]:
    """Return the log-probabilities of a completion's tokens, the first of which stands at `offset`."""
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token.text)
    return {
        "tokens": [token.text for token in tokens],
        "token_logprobs": [None if token.logprob is None else _bounded(token.logprob) for token in tokens],
        "top_logprobs": [_tops(token, top) for token in tokens] if top else None,
        "text_offset": offsets,
    }


def _entry(token: Token | Candidate) -> dict[str, Any]:
    return {"token": token.text, "logprob": _bounded(token.logprob), "bytes": list(token.text.encode())}


def _tops(token: Token | PrefillToken, top: int) -> dict[str, float] | None:
    if isinstance(token, PrefillToken):
        return None
    return {candidate.text: _bounded(candidate.logprob) for candidate in token.top[:top]}


def _bounded(logprob: float) -> float:
    return logprob if logprob > LOWEST else LOWEST
