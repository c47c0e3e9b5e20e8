"""What is answered: tokens and completions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from runtime.receipt import Receipt
from runtime.rpc.convert.prompt import cost_from, cost_message
from runtime.runtime import Candidate, Completion, Delta, FinishReason, PrefillToken, Timings, Token
from runtime.v1 import messages_pb2

FINISH_REASONS = {
    FinishReason.LENGTH: messages_pb2.FINISH_REASON_LENGTH,
    FinishReason.EOS_TOKEN: messages_pb2.FINISH_REASON_EOS_TOKEN,
    FinishReason.STOP_SEQUENCE: messages_pb2.FINISH_REASON_STOP_SEQUENCE,
}


def delta_from(message: messages_pb2.Delta) -> Delta:
    """Read new tokens."""
    tokens, prefill = message.tokens, message.prefill_tokens
    tops = map(_candidates_from, message.top_tokens) if message.top_tokens else itertools.repeat(())
    return Delta(
        tuple(map(Token, tokens.ids, tokens.texts, tokens.logprobs, tokens.is_special, tops)),
        _completion_from(message.generated_text) if message.HasField("generated_text") else None,
        tuple(map(_prefill_token_from, prefill.ids, prefill.texts, prefill.logprobs)),
        message.prompt_digest,
    )


def delta_message(delta: Delta, request_id: int = 0) -> messages_pb2.Delta:
    """Make the message of new tokens."""
    has_tops = any(token.top for token in delta.tokens)
    return messages_pb2.Delta(
        request_id=request_id,
        prefill_tokens=_prefill_message(delta.prefill) if delta.prefill else None,
        tokens=_tokens_message(delta.tokens),
        generated_text=None if delta.completion is None else _completion_message(delta.completion),
        top_tokens=[_tokens_message(token.top) for token in delta.tokens] if has_tops else [],
        prompt_digest=delta.prompt_digest,
    )


def _tokens_message(tokens: Sequence[Token] | Sequence[Candidate]) -> messages_pb2.Tokens:
    return messages_pb2.Tokens(
        ids=[token.id for token in tokens],
        logprobs=[token.logprob for token in tokens],
        texts=[token.text for token in tokens],
        is_special=[token.special for token in tokens],
    )


def _candidates_from(message: messages_pb2.Tokens) -> tuple[Candidate, ...]:
    return tuple(map(Candidate, message.ids, message.texts, message.logprobs, message.is_special))


def _prefill_message(prefill: Sequence[PrefillToken]) -> messages_pb2.Tokens:
    return messages_pb2.Tokens(
        ids=[token.id for token in prefill],
        logprobs=[math.nan if token.logprob is None else token.logprob for token in prefill],
        texts=[token.text for token in prefill],
    )


def _prefill_token_from(id: int, text: str, logprob: float) -> PrefillToken:
    return PrefillToken(id, text, None if math.isnan(logprob) else logprob)


def _completion_from(message: messages_pb2.GeneratedText) -> Completion:
    reasons = {number: reason for reason, number in FINISH_REASONS.items()}
    return Completion(
        text=message.text,
        finish_reason=reasons[message.finish_reason],
        generated_tokens=message.generated_tokens,
        prompt_tokens=message.prompt_tokens,
        seed=message.seed if message.HasField("seed") else None,
        timings=_timings_from(message.timings) if message.HasField("timings") else None,
        cost=cost_from(message.prompt_cost),
        receipt=Receipt.of_json(message.receipt.json) if message.HasField("receipt") else None,
    )


def _timings_from(message: messages_pb2.Timings) -> Timings:
    return Timings(message.validation, message.queue, message.inference, message.total)


def _timings_message(timings: Timings) -> messages_pb2.Timings:
    return messages_pb2.Timings(
        validation=timings.validation, queue=timings.queue, inference=timings.inference, total=timings.total
    )


def _completion_message(completion: Completion) -> messages_pb2.GeneratedText:
    receipt = completion.receipt
    return messages_pb2.GeneratedText(
        text=completion.text,
        finish_reason=FINISH_REASONS[completion.finish_reason],
        generated_tokens=completion.generated_tokens,
        prompt_tokens=completion.prompt_tokens,
        seed=completion.seed,
        timings=None if completion.timings is None else _timings_message(completion.timings),
        prompt_cost=cost_message(completion.cost),
        receipt=None if receipt is None else messages_pb2.Receipt(json=receipt.json()),
    )
