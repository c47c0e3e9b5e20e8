"""Field numbers: those of TGI's generate.v3, and our own from 100 up, so that its router and ours can talk."""

from __future__ import annotations

import struct

import pytest
from google.protobuf.descriptor import Descriptor
from runtime.rpc import convert
from runtime.runtime import GenerateRequest, ImagePart, SamplingParameters, StoppingParameters, TextPart
from runtime.v1 import backend_pb2, generation_pb2, messages_pb2

# Field numbers of TGI's generate.v3 (proto/v3/generate.proto), by our message names: Delta is TGI's Generation,
# Filter its FilterBatch, Release its ClearCache.
TGI = {
    "InfoResponse": {"requires_padding": 1, "dtype": 2, "device_type": 3},
    "Image": {"data": 1, "mimetype": 2},
    "InputChunk": {"text": 1, "image": 2},
    "Input": {"chunks": 1},
    "NextTokenChooserParameters": {
        "temperature": 1,
        "top_k": 2,
        "top_p": 3,
        "typical_p": 4,
        "do_sample": 5,
        "seed": 6,
        "repetition_penalty": 7,
        "watermark": 8,
        "frequency_penalty": 9,
        "grammar": 10,
        "grammar_type": 11,
    },
    "StoppingCriteriaParameters": {"max_new_tokens": 1, "stop_sequences": 2, "ignore_eos_token": 3},
    "Request": {
        "id": 1,
        "inputs": 2,
        "truncate": 3,
        "parameters": 4,
        "stopping_parameters": 5,
        "prefill_logprobs": 6,
        "top_n_tokens": 7,
        "input_chunks": 8,
        "add_special_tokens": 13,
    },
    "Batch": {"id": 1, "requests": 2, "size": 3, "max_tokens": 4},
    "CachedBatch": {"id": 1, "request_ids": 2, "size": 3, "max_tokens": 4},
    "GeneratedText": {"text": 1, "generated_tokens": 2, "finish_reason": 3, "seed": 4},
    "Tokens": {"ids": 1, "logprobs": 2, "texts": 3, "is_special": 4},
    "Delta": {"request_id": 1, "prefill_tokens": 2, "tokens": 3, "generated_text": 4, "top_tokens": 5},
    "FilterRequest": {"batch_id": 1, "request_ids": 2},
    "FilterResponse": {"batch": 1},
    "PrefillRequest": {"batch": 1},
    "PrefillResponse": {"generations": 1, "batch": 2, "forward_ns": 3, "decode_ns": 4, "total_ns": 5},
    "DecodeRequest": {"batches": 1},
    "DecodeResponse": {"generations": 1, "batch": 2, "forward_ns": 3, "decode_ns": 4, "total_ns": 5},
    "ReleaseRequest": {"id": 1},
    "WarmupRequest": {},
    "WarmupResponse": {},
    "HealthRequest": {},
    "HealthResponse": {},
    "InfoRequest": {},
    "ReleaseResponse": {},
}
TGI_ENUMS = {
    "GrammarType": {"GRAMMAR_TYPE_NONE": 0, "GRAMMAR_TYPE_JSON": 1, "GRAMMAR_TYPE_REGEX": 2},
    "FinishReason": {"FINISH_REASON_LENGTH": 0, "FINISH_REASON_EOS_TOKEN": 1, "FINISH_REASON_STOP_SEQUENCE": 2},
}
# Messages that TGI does not have at all, whose numbers are ours.
OURS = {
    *("TokenIds", "Message", "PrefillShape", "DecodeShape", "VisionShape", "ConcatenateRequest", "ConcatenateResponse"),
    *("GenerateRequest", "GenerateResponse", "TokenizeRequest", "TokenizeResponse", "PromptToken"),
    *("MetricsRequest", "MetricsResponse", "Timings", "ImageCost", "PromptCost", "Receipt", "Resumption"),
}
FILES = (messages_pb2, backend_pb2, generation_pb2)
MESSAGES: dict[str, Descriptor] = {
    name: message for file in FILES for name, message in file.DESCRIPTOR.message_types_by_name.items()
}


@pytest.mark.parametrize("name", TGI)
def test_fields_have_the_numbers_of_tgi(name: str) -> None:
    """What TGI has keeps its number; everything else starts at 100."""
    numbers = {field.name: field.number for field in MESSAGES[name].fields}
    shared = {field: number for field, number in numbers.items() if number < 100}
    assert shared == TGI[name]


def test_every_message_is_looked_at() -> None:
    """A new message must be said to be TGI's or ours."""
    assert set(MESSAGES) == set(TGI) | OURS


@pytest.mark.parametrize("name", TGI_ENUMS)
def test_enums_have_the_numbers_of_tgi(name: str) -> None:
    """Names and numbers."""
    enum = messages_pb2.DESCRIPTOR.enum_types_by_name[name]
    assert {value.name: value.number for value in enum.values} == TGI_ENUMS[name]


def test_bytes_of_a_tgi_router_are_understood() -> None:
    """A request written byte by byte, as a client of generate.v3 would: field number and wire type, then the value."""
    parameters = b"".join(
        [
            *(b"\x0d" + struct.pack("<f", 0.5), b"\x10\x0a", b"\x1d" + struct.pack("<f", 0.25)),  # temperature, k, p
            *(b"\x25" + struct.pack("<f", 1), b"\x28\x01", b"\x30\x07"),  # typical_p 1, do_sample, seed 7
            *(b"\x3d" + struct.pack("<f", 1), b"\x40\x00", b"\x4d" + struct.pack("<f", 0)),  # the rest neutral
        ]
    )
    stopping = b"\x08\x14" + b"\x12\x01x" + b"\x18\x01"  # 20 tokens, stop at x, ignore the end of sequence
    chunks = b"\x0a\x04\x0a\x02Hi" + b"\x0a\x05\x12\x03\x0a\x01\xff"  # text Hi, an image of one byte
    wire = (
        b"\x08\x2a\x12\x02Hi"
        + b"\x22%c" % len(parameters)
        + parameters
        + b"\x2a%c" % len(stopping)
        + stopping
        + b"\x42%c" % len(chunks)
        + chunks
        + b"\x68\x00"  # no special tokens
    )
    message = messages_pb2.Request.FromString(wire)
    assert message.id == 42
    assert convert.request_from(message) == GenerateRequest(
        parts=(TextPart("Hi"), ImagePart(b"\xff")),
        sampling=SamplingParameters(do_sample=True, temperature=0.5, top_k=10, top_p=0.25, seed=7),
        stopping=StoppingParameters(max_new_tokens=20, stop=("x",), ignore_eos=True),
        add_special_tokens=False,
    )
