"""Messages: a way there and back for everything, and a refusal by name for what they cannot hold."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime.backend import DecodeShape, PrefillShape, VisionShape, WarmupProgress
from runtime.cost import ImageCost, PromptCost
from runtime.errors import InvalidRequest
from runtime.parameters import LONGEST_STOP, SMALLEST
from runtime.rpc import convert
from runtime.runtime import (
    CachedBatch,
    Candidate,
    Completion,
    Delta,
    FinishReason,
    GenerateRequest,
    Grammar,
    GrammarKind,
    Health,
    ImagePart,
    ImageUrlPart,
    Info,
    Message,
    PrefillToken,
    PromptToken,
    Readiness,
    Resumption,
    SamplingParameters,
    StoppingParameters,
    TextPart,
    Timings,
    Token,
    Tokenization,
    TokensPart,
)
from runtime.v1 import messages_pb2

uint32 = st.integers(0, 2**32 - 1)
uint64 = st.integers(0, 2**64 - 1)
penalties = st.floats(-2, 2, width=32)
floats32 = st.floats(width=32, allow_nan=False)
parts = (
    st.builds(TextPart, st.text())
    | st.builds(TokensPart, st.lists(uint32).map(tuple))
    | st.builds(ImagePart, st.binary())
    | st.builds(ImageUrlPart, st.text())
)
tuples_of_parts = st.lists(parts, min_size=1, max_size=4).map(tuple)
messages = st.builds(Message, st.text(), st.lists(parts, max_size=3).map(tuple))
requests = st.builds(
    GenerateRequest,
    sampling=st.builds(
        SamplingParameters,
        do_sample=st.booleans(),
        temperature=st.floats(SMALLEST, 2.0**127, width=32),
        top_k=st.integers(0, 2**31 - 1),
        top_p=st.floats(SMALLEST, 1, width=32),
        typical_p=st.floats(SMALLEST, 1, width=32),
        repetition_penalty=st.floats(0.0078125, 1000, width=32),
        frequency_penalty=penalties,
        presence_penalty=penalties,
        frequency_share=penalties,
        watermark=st.booleans(),
        seed=st.none() | uint64,
    ),
    stopping=st.builds(
        StoppingParameters,
        max_new_tokens=st.none() | st.integers(1, 2**31 - 1),
        stop=st.lists(st.text(min_size=1, max_size=LONGEST_STOP), max_size=3).map(tuple),
        ignore_eos=st.booleans(),
    ),
    add_special_tokens=st.booleans(),
    truncate=st.none() | st.integers(1, 2**32 - 1),
    grammar=st.none() | st.builds(Grammar, st.sampled_from(GrammarKind), st.text(min_size=1)),
    top_n_tokens=st.integers(0, 20),
    prompt_logprobs=st.booleans(),
    resumption=st.none() | st.builds(Resumption, st.lists(uint32, max_size=4).map(tuple), st.text("0f", max_size=4)),
).flatmap(
    lambda base: st.one_of(
        st.builds(lambda given: _with(base, parts=given), tuples_of_parts),
        st.builds(lambda given: _with(base, messages=given), st.lists(messages, min_size=1, max_size=3).map(tuple)),
    )
)
candidates = st.lists(st.builds(Candidate, uint32, st.text(), floats32, st.booleans()), max_size=2).map(tuple)
tokens = st.builds(Token, uint32, st.text(), floats32, st.booleans(), candidates)
prompt_tokens = st.builds(PromptToken, uint32, st.text(), st.booleans(), st.none() | uint32, st.none() | uint32)
prefill_tokens = st.builds(PrefillToken, uint32, st.text(), st.none() | floats32)
seconds = st.floats(allow_nan=False)
costs = st.builds(
    PromptCost,
    images=st.lists(st.builds(ImageCost, uint32, uint32), max_size=3).map(tuple),
    cached_tokens=uint32,
    bucket=st.none() | uint32,
    padding=st.none() | uint32,
)
completions = st.builds(
    Completion,
    st.text(),
    st.sampled_from(FinishReason),
    uint32,
    uint32,
    st.none() | uint64,
    st.none() | st.builds(Timings, seconds, seconds, seconds, seconds),
    costs,
)
deltas = st.builds(
    Delta,
    st.lists(tokens, max_size=3).map(tuple),
    st.none() | completions,
    st.lists(prefill_tokens).map(tuple),
    st.text("0f", max_size=4),
)


def _with(request: GenerateRequest, **fields: Any) -> GenerateRequest:
    return dataclasses.replace(request, **fields)


@given(requests, uint64)
def test_request_round_trip(request: GenerateRequest, request_id: int) -> None:
    """What the gateway asks is what the worker reads, over the wire."""
    wire = convert.request_message(request, request_id).SerializeToString()
    message = messages_pb2.Request.FromString(wire)
    assert message.id == request_id
    assert convert.request_from(message) == request


@given(deltas, uint64)
def test_delta_round_trip(delta: Delta, request_id: int) -> None:
    """A seed of 0 and no seed are told apart, and so are texts of any kind, and tokens with and without candidates."""
    message = messages_pb2.Delta.FromString(convert.delta_message(delta, request_id).SerializeToString())
    assert message.request_id == request_id
    assert convert.delta_from(message) == delta


@given(
    st.builds(
        Info,
        **{name: st.text(max_size=5) for name in ("model_id", "model_digest", "architecture", "dtype", "backend")},
        **{name: st.text(max_size=5) for name in ("backend_version", "contract", "device", "version")},
        **dict.fromkeys(("max_input_tokens", "max_total_tokens", "max_batch_size"), uint32),
        **dict.fromkeys(("max_concurrent_requests", "max_waiting_tokens", "validation_workers"), uint32),
        **dict.fromkeys(("max_batch_prefill_tokens", "max_batch_total_tokens"), uint64),
        waiting_served_ratio=st.floats(allow_nan=False),
        vision=st.booleans(),
        details=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
    )
)
def test_info_round_trip(info: Info) -> None:
    """Every field; two that were swapped would show."""
    assert convert.info_from(convert.info_message(info)) == info


@given(st.builds(Tokenization, st.lists(prompt_tokens, max_size=3).map(tuple), costs))
def test_tokenization_round_trip(tokenization: Tokenization) -> None:
    """A place of 0 and no place are told apart, and a bucket of 0 and none."""
    assert convert.tokenization_from(convert.tokenization_message(tokenization)) == tokenization


@given(st.builds(Health, st.sampled_from(Readiness), st.text(), seconds, st.none() | seconds))
def test_health_round_trip(health: Health) -> None:
    """Every state."""
    assert convert.health_from(convert.health_message(health)) == health


@given(st.builds(CachedBatch, uint64, st.lists(uint64).map(tuple), uint32))
def test_batch_round_trip(batch: CachedBatch) -> None:
    """`size` is the number of live requests."""
    message = convert.batch_message(batch)
    assert message.size == len(batch.request_ids)
    assert convert.batch_from(message) == batch
    assert convert.batch_ids([message]) == [batch.id]


@given(
    st.builds(
        WarmupProgress,
        done=uint32,
        total=uint32,
        shape=st.builds(PrefillShape, uint32, uint32, uint32)
        | st.builds(DecodeShape, uint32, uint32)
        | st.builds(VisionShape, uint32),
        seconds=st.floats(allow_nan=False),
    )
)
def test_progress_round_trip(progress: WarmupProgress) -> None:
    """Every kind of shape, all zeros included."""
    assert convert.progress_from(convert.progress_message(progress)) == progress


@pytest.mark.parametrize("kind", [messages_pb2.GRAMMAR_TYPE_NONE, 77])
def test_grammar_of_no_kind(kind: int) -> None:
    """A caller forgot to say how it is written, or is newer."""
    parameters = messages_pb2.NextTokenChooserParameters(grammar="{}", grammar_type=kind)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match=r"^`grammar_type` must be"):
        convert.request_from(messages_pb2.Request(inputs="a", parameters=parameters))


def test_kind_of_no_grammar() -> None:
    """The text decides."""
    parameters = messages_pb2.NextTokenChooserParameters(grammar_type=messages_pb2.GRAMMAR_TYPE_JSON)
    assert convert.request_from(messages_pb2.Request(inputs="a", parameters=parameters)).grammar is None


def test_both_frequency_penalties() -> None:
    """TGI's number has TGI's formula; OpenAI's has a number of our own."""
    parameters = messages_pb2.NextTokenChooserParameters(frequency_penalty=0.5, openai_frequency_penalty=1.5)
    sampling = convert.request_from(messages_pb2.Request(inputs="a", parameters=parameters)).sampling
    assert (sampling.frequency_share, sampling.frequency_penalty) == (0.5, 1.5)


def test_first_token_of_a_prompt_is_not_a_number() -> None:
    """On the wire, as in TGI."""
    message = convert.delta_message(Delta((), None, (PrefillToken(1, "<s>", None),)))
    assert math.isnan(message.prefill_tokens.logprobs[0])


@pytest.mark.parametrize("absent", [0, 1])
def test_values_that_ask_for_nothing_are_accepted(absent: float) -> None:
    """TGI's neutral values, which its router always sends, and zeros, which grpcurl users write."""
    parameters = messages_pb2.NextTokenChooserParameters(
        temperature=absent, top_k=0, top_p=absent, typical_p=absent, repetition_penalty=absent, frequency_penalty=0
    )
    message = messages_pb2.Request(inputs="a", parameters=parameters)
    assert convert.request_from(message) == GenerateRequest(parts=(TextPart("a"),))


def test_empty_message_is_the_default_request() -> None:
    """Absent is neutral: greedy, to the end of the context, with special tokens."""
    assert convert.request_from(messages_pb2.Request()) == GenerateRequest(parts=(TextPart(""),))


def test_0_tokens_fill_the_context() -> None:
    """As the proto file says."""
    stopping = messages_pb2.StoppingCriteriaParameters(max_new_tokens=0)
    request = convert.request_from(messages_pb2.Request(inputs="a", stopping_parameters=stopping))
    assert request.stopping.max_new_tokens is None


def test_inputs_are_split_at_pictures() -> None:
    """TGI's form of a prompt."""
    message = messages_pb2.Request(inputs="![](data:image/png;base64,AAAA)What?")
    assert convert.request_from(message).parts == (ImageUrlPart("data:image/png;base64,AAAA"), TextPart("What?"))


def test_parts_win_over_inputs() -> None:
    """TGI's router sends both."""
    chunks = messages_pb2.Input(chunks=[messages_pb2.InputChunk(text="parts")])
    message = messages_pb2.Request(inputs="inputs", input_chunks=chunks)
    assert convert.request_from(message).parts == (TextPart("parts"),)


def test_messages_win_over_inputs_but_not_over_parts() -> None:
    """Parts beside messages are handed on, so that the worker refuses them instead of dropping them."""
    turn = messages_pb2.Message(role="user", chunks=[messages_pb2.InputChunk(text="hello")])
    chunks = messages_pb2.Input(chunks=[messages_pb2.InputChunk(text="parts")])
    read = convert.request_from(messages_pb2.Request(inputs="inputs", messages=[turn]))
    assert read == GenerateRequest(messages=(Message("user", (TextPart("hello"),)),))
    read = convert.request_from(messages_pb2.Request(input_chunks=chunks, messages=[turn]))
    assert (read.parts, len(read.messages)) == ((TextPart("parts"),), 1)


@pytest.mark.parametrize("place", ["input_chunks", "messages"])
def test_empty_chunk(place: str) -> None:
    """A chunk without anything in it is a mistake of the caller."""
    empty = [messages_pb2.InputChunk()]
    message = messages_pb2.Request(
        input_chunks=messages_pb2.Input(chunks=empty if place == "input_chunks" else []),
        messages=[messages_pb2.Message(role="user", chunks=empty)] if place == "messages" else [],
    )
    with pytest.raises(InvalidRequest, match="chunk of the prompt is empty"):
        convert.request_from(message)


@pytest.mark.parametrize(
    ("request_", "named"),
    [
        (GenerateRequest(sampling=SamplingParameters(top_k=-1)), "`top_k`"),
        (GenerateRequest(sampling=SamplingParameters(seed=-1)), "`seed`"),
        (GenerateRequest(sampling=SamplingParameters(temperature=0)), "`temperature`"),
        (GenerateRequest(sampling=SamplingParameters(top_p=1e-50)), "`top_p`"),
        (GenerateRequest(stopping=StoppingParameters(max_new_tokens=0)), "`max_new_tokens`"),
        (GenerateRequest(stopping=StoppingParameters(max_new_tokens=2**40)), "`max_new_tokens`"),
        (GenerateRequest(truncate=0), "`truncate`"),
        (GenerateRequest(truncate=2**32), "`truncate`"),
        (GenerateRequest(top_n_tokens=21), "`top_n_tokens`"),
        (GenerateRequest(parts=(TokensPart((-1,)),)), "token id -1"),
        (GenerateRequest(parts=(TokensPart((2**32,)),)), "token id 4294967296"),
        (GenerateRequest(grammar=Grammar(GrammarKind.REGEX, "\ud800")), "half of a surrogate pair"),
        (GenerateRequest(parts=(TextPart("\ud800"),)), "half of a surrogate pair"),
        (GenerateRequest(messages=(Message("\ud800", ()),)), "half of a surrogate pair"),
        (GenerateRequest(stopping=StoppingParameters(stop=("\ud800",))), "half of a surrogate pair"),
    ],
)
def test_what_a_message_cannot_hold(request_: GenerateRequest, named: str) -> None:
    """Refused as the worker would, and never turned into something else, such as 0 into absent."""
    with pytest.raises(InvalidRequest, match=named):
        convert.request_message(request_)
