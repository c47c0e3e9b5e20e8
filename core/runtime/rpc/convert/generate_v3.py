"""Messages of TGI's shard protocol.

`runtime.v1` has TGI's field numbers wherever it has TGI's fields, so requests and tokens are read as messages of
`runtime.v1` from the same bytes. tests/core/rpc/test_generate_v3_numbers.py holds the two against each other.
"""

from __future__ import annotations

from typing import Final

from runtime.errors import InvalidRequest
from runtime.rpc.convert.reply import delta_message
from runtime.rpc.convert.request import request_from
from runtime.runtime import CachedBatch, Delta, GenerateRequest, Info
from runtime.v1 import messages_pb2
from runtime.v3 import generate_pb2

BLOCK_SIZE: Final = 1
"""Nothing is paged, but a router divides by it."""


def routed_request_from(message: generate_pb2.Request) -> GenerateRequest:
    """Read a prompt: `input_chunks`, else `inputs` with markdown pictures."""
    if message.adapter_id:
        raise InvalidRequest("`adapter_id` is given, and no adapters are served; leave it out")
    ours = messages_pb2.Request.FromString(message.SerializeToString())
    ours.add_special_tokens = message.add_special_tokens  # false and 0 are not sent, and absent means otherwise in v1
    ours.parameters.seed = message.parameters.seed
    return request_from(ours)


def generation_message(delta: Delta, request_id: int) -> generate_pb2.Generation:
    """Make the message of new tokens."""
    message: generate_pb2.Generation = generate_pb2.Generation.FromString(
        delta_message(delta, request_id).SerializeToString()
    )
    message.DiscardUnknownFields()  # those of our own
    return message


def routed_batch_message(batch: CachedBatch) -> generate_pb2.CachedBatch:
    """Make the message of a leased batch."""
    size = len(batch.request_ids)
    return generate_pb2.CachedBatch(
        id=batch.id, request_ids=batch.request_ids, size=size, max_tokens=batch.max_tokens, current_tokens=size
    )


def routed_info_message(info: Info) -> generate_pb2.InfoResponse:
    """Make the message of what is served."""
    return generate_pb2.InfoResponse(
        requires_padding=True,
        dtype=f"torch.{info.dtype}",
        device_type=info.device,
        block_size=BLOCK_SIZE,
    )


def capacity_message(asked: generate_pb2.WarmupRequest, info: Info) -> generate_pb2.WarmupResponse:
    """Make the message of what runs together, the limits as the router asked for them.

    Raises InvalidRequest when it asks for more than is served.
    """
    for field, limit in {
        "max_input_tokens": info.max_input_tokens,
        "max_total_tokens": info.max_total_tokens,
        "max_prefill_tokens": info.max_batch_prefill_tokens,
    }.items():
        if (value := getattr(asked, field)) > limit:
            raise InvalidRequest(f"`{field}` is {value}, and the worker takes {limit}; start both with the same limits")
    return generate_pb2.WarmupResponse(
        max_supported_total_tokens=min(info.max_batch_total_tokens, info.max_batch_size * info.max_total_tokens),
        max_input_tokens=asked.max_input_tokens or info.max_input_tokens,
        max_total_tokens=asked.max_total_tokens or info.max_total_tokens,
    )
