"""Numbers of TGI's shard protocol, and that the messages of `runtime.v1` may be read from the same bytes."""

from __future__ import annotations

import struct

import pytest
from google.protobuf.descriptor import FieldDescriptor
from runtime.rpc.convert import generate_v3 as convert
from runtime.runtime import GenerateRequest, ImagePart, SamplingParameters, StoppingParameters, TextPart
from runtime.v1 import messages_pb2
from runtime.v3 import generate_pb2

MESSAGES = generate_pb2.DESCRIPTOR.message_types_by_name
# The fields of text-generation-inference (proto/v3/generate.proto) up to 3.3.7, and the last of WarmupRequest from
# TGI-Gaudi 2.3: in the order of their numbers, which start at 1 and leave none out.
STEP = "generations batch forward_ns decode_ns total_ns concat_ns"
FIELDS = {
    "HealthRequest": "",
    "HealthResponse": "",
    "InfoRequest": "",
    "InfoResponse": "requires_padding dtype device_type window_size speculate support_chunking use_prefix_caching"
    " attention_impl block_size",
    "ServiceDiscoveryRequest": "",
    "ServiceDiscoveryResponse": "urls",
    "ClearCacheRequest": "id",
    "ClearCacheResponse": "",
    "Image": "data mimetype",
    "InputChunk": "text image",
    "Input": "chunks",
    "NextTokenChooserParameters": "temperature top_k top_p typical_p do_sample seed repetition_penalty watermark"
    " frequency_penalty grammar grammar_type",
    "StoppingCriteriaParameters": "max_new_tokens stop_sequences ignore_eos_token",
    "Request": "id inputs truncate parameters stopping_parameters prefill_logprobs top_n_tokens input_chunks blocks"
    " slots adapter_id cache_len add_special_tokens chunk_len",
    "Batch": "id requests size max_tokens max_blocks",
    "CachedBatch": "id request_ids size max_tokens current_tokens",
    "GeneratedText": "text generated_tokens finish_reason seed",
    "Tokens": "ids logprobs texts is_special",
    "Generation": "request_id prefill_tokens tokens generated_text top_tokens",
    "FilterBatchRequest": "batch_id request_ids",
    "FilterBatchResponse": "batch",
    "PrefillRequest": "batch cached_batch",
    "PrefillResponse": STEP,
    "DecodeRequest": "batches",
    "DecodeResponse": STEP,
    "WarmupRequest": "batch max_input_tokens max_prefill_tokens max_total_tokens max_batch_total_tokens",
    "WarmupResponse": "max_supported_total_tokens max_input_tokens max_total_tokens",
}
OPTIONAL = {
    *("InfoResponse.window_size", "ClearCacheRequest.id", "Request.adapter_id", "Request.chunk_len"),
    *("GeneratedText.seed", "Generation.generated_text", "PrefillResponse.batch", "PrefillResponse.concat_ns"),
    *("DecodeResponse.batch", "DecodeResponse.concat_ns", "WarmupRequest.max_input_tokens"),
    *("WarmupRequest.max_total_tokens", "WarmupResponse.max_supported_total_tokens"),
}
"""Fields whose absence means something."""
REQUEST = ("Image", "InputChunk", "Input", "NextTokenChooserParameters", "StoppingCriteriaParameters", "Request")
REPLY = {"GeneratedText": "GeneratedText", "Tokens": "Tokens", "Generation": "Delta"}
SAME_BYTES = {**dict(zip(REQUEST, REQUEST, strict=True)), **REPLY}
"""Messages read from each other's bytes: TGI's name and ours."""
NOT_READ = {"Request": {"blocks", "slots", "adapter_id", "cache_len", "chunk_len"}}
"""Fields that ours lack; of these only adapter_id changes the answer."""


def test_service_is_the_one_a_router_calls() -> None:
    """The path of an rpc is its full name."""
    service = generate_pb2.DESCRIPTOR.services_by_name["TextGenerationService"]
    assert service.full_name == "generate.v3.TextGenerationService"
    assert {method.name for method in service.methods} == {
        *("Info", "ServiceDiscovery", "ClearCache", "FilterBatch", "Warmup", "Prefill", "Decode", "Health")
    }


def test_fields_have_the_numbers_of_tgi() -> None:
    """Of every message, none more and none less."""
    told = {name: {field.number: field.name for field in message.fields} for name, message in MESSAGES.items()}
    assert told == {name: dict(enumerate(fields.split(), start=1)) for name, fields in FIELDS.items()}


def test_optional_fields() -> None:
    """Presence is told where TGI tells it."""
    assert {
        f"{name}.{field.name}"
        for name, message in MESSAGES.items()
        for field in message.fields
        if field.containing_oneof is not None and field.containing_oneof.name == f"_{field.name}"
    } == OPTIONAL


def shape(field: FieldDescriptor) -> tuple[object, ...]:
    """What makes two fields the same on the wire."""
    kind = field.message_type or field.enum_type
    named = None if kind is None else SAME_BYTES.get(kind.name, kind.name)
    return field.name, field.type, field.is_repeated, named


@pytest.mark.parametrize("name", SAME_BYTES)
def test_same_bytes_mean_the_same_in_ours(name: str) -> None:
    """Numbers, types and nested messages agree; what ours lacks is listed."""
    ours = {field.number: field for field in messages_pb2.DESCRIPTOR.message_types_by_name[SAME_BYTES[name]].fields}
    theirs = {field.number: field for field in MESSAGES[name].fields}
    for number in theirs.keys() & ours.keys():
        assert shape(theirs[number]) == shape(ours[number])
    assert {theirs[number].name for number in theirs.keys() - ours.keys()} == NOT_READ.get(name, set())
    assert all(number >= 100 for number in ours.keys() - theirs.keys())


@pytest.mark.parametrize("name", ["GrammarType", "FinishReason"])
def test_enums_agree(name: str) -> None:
    """Names and numbers."""
    theirs, ours = (file.DESCRIPTOR.enum_types_by_name[name] for file in (generate_pb2, messages_pb2))
    assert [(each.name, each.number) for each in theirs.values] == [(each.name, each.number) for each in ours.values]
    assert [each.number for each in theirs.values] == [0, 1, 2]


def test_bytes_of_a_router_are_understood() -> None:
    """A request written byte by byte: field number and wire type, then the value. A router does not send a false."""
    parameters = b"".join(
        [
            *(b"\x0d" + struct.pack("<f", 0.5), b"\x10\x0a", b"\x1d" + struct.pack("<f", 0.25)),  # temperature, k, p
            *(b"\x25" + struct.pack("<f", 1), b"\x28\x01", b"\x30\x07"),  # typical_p 1, do_sample, seed 7
            b"\x3d" + struct.pack("<f", 1),  # repetition_penalty 1
        ]
    )
    stopping = b"\x08\x14" + b"\x12\x01x" + b"\x18\x01"  # 20 tokens, stop at x, ignore the end of sequence
    chunks = b"\x0a\x04\x0a\x02Hi" + b"\x0a\x05\x12\x03\x0a\x01\xff"  # text Hi, an image of one byte
    wire = (
        b"\x08\x2a\x12\x02Hi"
        + b"\x18\x09"  # truncate to 9
        + b"\x22%c" % len(parameters)
        + parameters
        + b"\x2a%c" % len(stopping)
        + stopping
        + b"\x30\x01\x38\x03"  # prefill_logprobs, 3 top tokens
        + b"\x42%c" % len(chunks)
        + chunks
        + b"\x4a\x01\x00\x52\x02\x00\x01"  # block 0, slots 0 and 1
    )
    message = generate_pb2.Request.FromString(wire)
    assert message.id == 42
    assert list(message.slots) == [0, 1]
    assert convert.routed_request_from(message) == GenerateRequest(
        parts=(TextPart("Hi"), ImagePart(b"\xff")),
        sampling=SamplingParameters(do_sample=True, temperature=0.5, top_k=10, top_p=0.25, seed=7),
        stopping=StoppingParameters(max_new_tokens=20, stop=("x",), ignore_eos=True),
        add_special_tokens=False,
        truncate=9,
        top_n_tokens=3,
        prompt_logprobs=True,
    )
