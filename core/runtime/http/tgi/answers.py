"""Replies in TGI's form. The order of the fields is TGI's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from runtime.cost import PromptCost
from runtime.http.receipts import receipt_field
from runtime.http.replies import Reply
from runtime.runtime import Candidate, Completion, PrefillToken, Token


def token_body(token: Token | Candidate) -> dict[str, Any]:
    """Return a token."""
    return {"id": token.id, "text": token.text, "logprob": finite(token.logprob), "special": token.special}


def finite(logprob: float | None) -> float | None:
    """Return null for what JSON cannot write, such as the logarithm of no probability."""
    return logprob if logprob is not None and math.isfinite(logprob) else None


def winner_first(replies: Sequence[Reply]) -> list[Reply]:
    """Put the reply of the highest mean log-probability before the others, which keep their order."""
    winner = max(range(len(replies)), key=lambda index: _mean_logprob(replies[index]))
    return [replies[winner], *replies[:winner], *replies[winner + 1 :]]


def cost_body(cost: PromptCost) -> dict[str, Any]:
    """Return what a prompt costs, which TGI does not tell."""
    return {
        "images": [{"tiles": image.tiles, "tokens": image.tokens} for image in cost.images],
        "cached_tokens": cost.cached_tokens,
        "bucket": cost.bucket,
        "padding": cost.padding,
    }


def details_body(reply: Reply, others: Sequence[Reply]) -> dict[str, Any]:
    """Return the details of a reply; `others` are those that best_of did not choose."""
    details = {**_ending(reply.completion), **_prompt_and_tokens(reply)}
    if others:
        details["best_of_sequences"] = [_sequence(other) for other in others]
    return {**details, **_tops(reply)}


def stream_event(
    index: int, token: Token, completion: Completion | None, prompt: str, with_details: bool
) -> dict[str, Any]:
    """Return the event of a token, the `index`-th from 1; the completion comes with the last, after the prompt."""
    event: dict[str, Any] = {"index": index, "token": token_body(token)}
    if token.top:
        event["top_tokens"] = [token_body(candidate) for candidate in token.top]
    event["generated_text"] = None if completion is None else prompt + completion.text
    event["details"] = None
    if completion is not None and with_details:
        event["details"] = {**_ending(completion), "input_length": completion.prompt_tokens}
    return event


def _mean_logprob(reply: Reply) -> float:
    return sum(token.logprob for token in reply.tokens) / max(1, len(reply.tokens))


def _sequence(reply: Reply) -> dict[str, Any]:
    text = {"generated_text": reply.completion.text}
    return {**text, **_ending(reply.completion), **_prompt_and_tokens(reply), **_tops(reply)}


def _ending(completion: Completion) -> dict[str, Any]:
    return {
        "finish_reason": completion.finish_reason.value,
        "generated_tokens": completion.generated_tokens,
        "seed": completion.seed,
        "prompt_cost": cost_body(completion.cost),
        **receipt_field(completion),
    }


def _prompt_and_tokens(reply: Reply) -> dict[str, Any]:
    return {"prefill": list(map(_prefill, reply.prefill)), "tokens": list(map(token_body, reply.tokens))}


def _prefill(token: PrefillToken) -> dict[str, Any]:
    return {"id": token.id, "text": token.text, "logprob": finite(token.logprob)}


def _tops(reply: Reply) -> dict[str, Any]:
    tops = [[token_body(candidate) for candidate in token.top] for token in reply.tokens]
    return {"top_tokens": tops} if any(tops) else {}
