"""TGI's shard protocol on the arithmetic backend: its messages in short, and a stub that is connected."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from runtime.v3 import generate_pb2, generate_pb2_grpc
from support.arithmetic import ArithmeticBackend, expected
from support.rpc import Connection, connected
from support.serving import TOKENIZER, arithmetic_runtime

ONE, TWO, THREE = "one red circle", "two", "three blue squares"
INVALID, NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND


def tokens(text: str, bos: bool = False) -> list[int]:
    return list(TOKENIZER.encode(text, add_special_tokens=bos))


def request(id: int, text: str, count: int = 8, **fields: Any) -> generate_pb2.Request:
    stopping = generate_pb2.StoppingCriteriaParameters(max_new_tokens=count)
    return generate_pb2.Request(id=id, inputs=text, stopping_parameters=stopping, **fields)


def prefill(batch_id: int, *requests: generate_pb2.Request) -> generate_pb2.PrefillRequest:
    return generate_pb2.PrefillRequest(batch=generate_pb2.Batch(id=batch_id, requests=requests))


def decode(*batch_ids: int) -> generate_pb2.DecodeRequest:
    return generate_pb2.DecodeRequest(batches=[generate_pb2.CachedBatch(id=id) for id in batch_ids])


def keep(batch_id: int, *request_ids: int) -> generate_pb2.FilterBatchRequest:
    return generate_pb2.FilterBatchRequest(batch_id=batch_id, request_ids=request_ids)


def told(response: generate_pb2.PrefillResponse | generate_pb2.DecodeResponse) -> dict[int, list[int]]:
    """Token ids by request id."""
    return {generation.request_id: list(generation.tokens.ids) for generation in response.generations}


async def refused(call: grpc.aio.UnaryUnaryCall, code: grpc.StatusCode, text: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match=text) as caught:
        await call
    assert caught.value.code() is code


@asynccontextmanager
async def shard(
    folder: Path, backend: ArithmeticBackend | None = None, **options: Any
) -> AsyncIterator[tuple[generate_pb2_grpc.TextGenerationServiceStub, Connection]]:
    """A stub of the service, on the arithmetic backend."""
    async with arithmetic_runtime(backend, **options) as runtime, connected(runtime, folder) as connection:
        yield generate_pb2_grpc.TextGenerationServiceStub(connection.channel), connection


def last_tokens(text: str, count: int) -> list[int]:
    """The tokens of a reply after its first."""
    return expected(tokens(text), count)[1:]
