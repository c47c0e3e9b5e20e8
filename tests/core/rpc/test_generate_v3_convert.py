"""Messages of TGI's shard protocol: how they are read, and what is told."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from runtime.errors import InvalidRequest
from runtime.rpc.convert import generate_v3 as convert
from runtime.runtime import (
    Candidate,
    Completion,
    Delta,
    FinishReason,
    Grammar,
    GrammarKind,
    ImageUrlPart,
    PrefillToken,
    SamplingParameters,
    StoppingParameters,
    TextPart,
    Timings,
    Token,
)
from runtime.v3 import generate_pb2
from support.router import NEUTRAL
from support.serving import info


def request(parameters: dict[str, Any] | None = None, **fields: Any) -> generate_pb2.Request:
    chooser = generate_pb2.NextTokenChooserParameters(**parameters or {})
    return generate_pb2.Request(inputs="Hi", parameters=chooser, **fields)


def test_neutral_parameters_are_greedy() -> None:
    """As a router fills them when a client says nothing; zeros are the same."""
    for parameters in (NEUTRAL, {}):
        read = convert.routed_request_from(request(parameters))
        assert read.sampling == SamplingParameters(seed=0)
        assert not read.sampling.draws


def test_absent_means_false_and_zero() -> None:
    """Protobuf does not send them: no beginning of sequence, seed 0, no truncation, the whole context."""
    read = convert.routed_request_from(generate_pb2.Request(inputs="Hi"))
    assert not read.add_special_tokens
    assert read.sampling.seed == 0
    assert read.truncate is None
    assert read.stopping == StoppingParameters()
    assert convert.routed_request_from(request(add_special_tokens=True)).add_special_tokens


def test_pictures_in_the_text() -> None:
    """Markdown in `inputs` counts when there are no chunks, and in none of them."""
    markdown = "a ![](data:image/png;base64,eA==) b"
    read = convert.routed_request_from(generate_pb2.Request(inputs=markdown))
    assert read.parts == (TextPart("a "), ImageUrlPart("data:image/png;base64,eA=="), TextPart(" b"))
    chunks = generate_pb2.Input(chunks=[generate_pb2.InputChunk(text=markdown)])
    read = convert.routed_request_from(generate_pb2.Request(inputs="other", input_chunks=chunks))
    assert read.parts == (TextPart(markdown),)


@pytest.mark.parametrize(
    ("number", "kind"),
    [(generate_pb2.GRAMMAR_TYPE_JSON, GrammarKind.JSON_SCHEMA), (generate_pb2.GRAMMAR_TYPE_REGEX, GrammarKind.REGEX)],
)
def test_grammar(number: int, kind: GrammarKind) -> None:
    """Its type is read; without one it is refused, and without a text there is no grammar."""
    read = convert.routed_request_from(request({"grammar": "[0-9]+", "grammar_type": number}))
    assert read.grammar == Grammar(kind, "[0-9]+")
    assert convert.routed_request_from(request({"grammar_type": number})).grammar is None
    with pytest.raises(InvalidRequest, match="`grammar_type`"):
        convert.routed_request_from(request({"grammar": "[0-9]+"}))


def test_frequency_penalty_is_tgi_s() -> None:
    """Not OpenAI's."""
    read = convert.routed_request_from(request({"frequency_penalty": 0.5}))
    assert (read.sampling.frequency_share, read.sampling.frequency_penalty) == (0.5, 0)


def test_adapter_is_refused() -> None:
    """Its reply would not be the adapter's; an empty name is none."""
    with pytest.raises(InvalidRequest, match="`adapter_id`"):
        convert.routed_request_from(request(adapter_id="mine"))
    assert convert.routed_request_from(request(adapter_id="")).parts == (TextPart("Hi"),)


def test_generation() -> None:
    """Everything that TGI tells, under the router's id, and nothing of our own."""
    end = Completion("ab", FinishReason.STOP_SEQUENCE, 2, 9, seed=2**64 - 1, timings=Timings(1, 1, 1, 1))
    token = Token(7, "b", -0.5, False, (Candidate(7, "b", -0.5, False), Candidate(2, "</s>", -2.0, True)))
    told = convert.generation_message(Delta((token,), end, (PrefillToken(1, "<s>", None),)), 2**64 - 1)
    assert told.request_id == 2**64 - 1
    assert told.tokens == generate_pb2.Tokens(ids=[7], logprobs=[-0.5], texts=["b"], is_special=[False])
    (top,) = told.top_tokens
    assert top == generate_pb2.Tokens(ids=[7, 2], logprobs=[-0.5, -2], texts=["b", "</s>"], is_special=[False, True])
    assert (list(told.prefill_tokens.ids), list(told.prefill_tokens.texts)) == ([1], ["<s>"])
    assert math.isnan(told.prefill_tokens.logprobs[0])
    known = generate_pb2.GeneratedText(
        text="ab", generated_tokens=2, finish_reason=generate_pb2.FINISH_REASON_STOP_SEQUENCE, seed=2**64 - 1
    )
    assert told.generated_text.SerializeToString() == known.SerializeToString()


def test_greedy_reply_tells_no_seed() -> None:
    """And a token that is not the last tells no text."""
    token = Token(7, "b", -0.5, False)
    told = convert.generation_message(Delta((token,), Completion("b", FinishReason.LENGTH, 1, 1, seed=None)), 0)
    assert not told.generated_text.HasField("seed")
    assert not convert.generation_message(Delta((token,), None), 0).HasField("generated_text")


def test_info() -> None:
    """What a router divides by is no zero."""
    told = convert.routed_info_message(replace(info(), dtype="bfloat16"))
    assert told == generate_pb2.InfoResponse(
        requires_padding=True, dtype="torch.bfloat16", device_type="cpu", block_size=1
    )
    assert not told.HasField("window_size")


def test_capacity() -> None:
    """What every row holds, or less when the budget is less; limits are the router's or, if it has none, ours."""
    facts = replace(info(), max_batch_size=4, max_total_tokens=64, max_input_tokens=48, max_batch_total_tokens=10_000)
    told = convert.capacity_message(generate_pb2.WarmupRequest(), facts)
    assert told == generate_pb2.WarmupResponse(max_supported_total_tokens=256, max_input_tokens=48, max_total_tokens=64)
    asked = generate_pb2.WarmupRequest(max_input_tokens=40, max_total_tokens=60, max_batch_total_tokens=9_999)
    told = convert.capacity_message(asked, replace(facts, max_batch_total_tokens=200))
    assert told == generate_pb2.WarmupResponse(max_supported_total_tokens=200, max_input_tokens=40, max_total_tokens=60)


@pytest.mark.parametrize("field", ["max_input_tokens", "max_total_tokens", "max_prefill_tokens"])
def test_router_set_to_more_than_is_served(field: str) -> None:
    """It learns so when it boots, and not from a request that fails; the limit itself is served."""
    facts = replace(info(), max_input_tokens=48, max_total_tokens=48, max_batch_prefill_tokens=48)
    convert.capacity_message(generate_pb2.WarmupRequest(**{field: 48}), facts)
    with pytest.raises(InvalidRequest, match=f"`{field}` is 49, and the worker takes 48"):
        convert.capacity_message(generate_pb2.WarmupRequest(**{field: 49}), facts)
