"""Step operations under the ids that a router chose: what each does, and when a batch is gone."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest
from runtime.backend import Limits
from runtime.rpc import generate_v3_batches
from runtime.v1 import backend_pb2
from runtime.v3 import generate_pb2, generate_pb2_grpc
from support.arithmetic import FAILS, FAILS_LATER, expected
from support.serving import LIMITS, ids, reply, tokens_request
from support.shard import (
    INVALID,
    NOT_FOUND,
    ONE,
    THREE,
    TWO,
    decode,
    keep,
    last_tokens,
    prefill,
    refused,
    request,
    shard,
    tokens,
    told,
)

pytestmark = pytest.mark.anyio

FAILING, FAILING_LATER = "d", "es"
"""Their tokens are FAILS and FAILS_LATER."""
TWO_ROWS = Limits(rows=2, context=64, prefill_rows=2, prefill_tokens=48)


def test_texts_that_fail() -> None:
    """What the tokenizer makes of them."""
    assert FAILS in tokens(FAILING)
    assert FAILS_LATER in tokens(FAILING_LATER)


@pytest.mark.proves("generate.v3.TextGenerationService/Prefill", "generate.v3.TextGenerationService/Decode")
async def test_batch_has_the_id_of_the_router(tmp_path: Path) -> None:
    """From 0 up to the id of health checks, in any order, until every request has ended."""
    async with shard(tmp_path) as (stub, _):
        for id in (0, 2**64 - 1, 7):
            first = await stub.Prefill(prefill(id, request(id, ONE, 2)))
            assert told(first) == {id: expected(tokens(ONE), 1)}
            assert first.batch == generate_pb2.CachedBatch(
                id=id, request_ids=[id], size=1, max_tokens=LIMITS.context, current_tokens=1
            )
            second = await stub.Decode(decode(id))
            assert told(second) == {id: last_tokens(ONE, 2)}
            assert second.generations[0].generated_text.generated_tokens == 2
            assert not second.HasField("batch")
            await refused(stub.Decode(decode(id)), NOT_FOUND, f"`batches`: there is no batch {id}")


async def test_joined_batch_keeps_the_first_id(tmp_path: Path) -> None:
    """Whatever the order; the others are gone, and their ids may be used again."""
    async with shard(tmp_path) as (stub, _):
        await stub.Prefill(prefill(5, request(1, ONE), request(2, TWO)))
        await stub.Prefill(prefill(3, request(3, THREE)))
        step = await stub.Decode(decode(3, 5))
        assert told(step) == {1: last_tokens(ONE, 2), 2: last_tokens(TWO, 2), 3: last_tokens(THREE, 2)}
        assert (step.batch.id, step.batch.size, step.batch.max_tokens) == (3, 3, 3 * LIMITS.context)
        assert set(step.batch.request_ids) == {1, 2, 3}
        await refused(stub.Decode(decode(5)), NOT_FOUND, "no batch 5")
        assert (await stub.Prefill(prefill(5, request(4, ONE)))).batch.id == 5
        assert set(told(await stub.Decode(decode(3)))) == {1, 2, 3}


async def test_finished_requests_leave_by_themselves(tmp_path: Path) -> None:
    """TGI keeps them until FilterBatch; naming those that live is right here too, and changes nothing."""
    async with shard(tmp_path) as (stub, _):
        await stub.Prefill(prefill(0, request(1, ONE, 2), request(2, TWO, 8)))
        step = await stub.Decode(decode(0))
        assert [generation.HasField("generated_text") for generation in step.generations] == [True, False]
        assert (list(step.batch.request_ids), step.batch.size) == ([2], 1)
        assert (await stub.FilterBatch(keep(0, 2))).batch == step.batch
        await refused(stub.FilterBatch(keep(0, 1, 2)), INVALID, r"no request 1 in batch 0, which holds \[2\]")
        assert told(await stub.Decode(decode(0))) == {2: expected(tokens(TWO), 3)[2:]}


@pytest.mark.proves("generate.v3.TextGenerationService/FilterBatch")
async def test_filter_gives_rows_back(tmp_path: Path) -> None:
    """Of requests that still ran: their clients are gone."""
    async with shard(tmp_path) as (stub, _):
        await stub.Prefill(prefill(0, request(1, ONE), request(2, TWO)))
        await stub.Prefill(prefill(1, request(3, ONE), request(4, TWO)))
        full = stub.Prefill(prefill(2, request(5, ONE)))
        await refused(full, grpc.StatusCode.RESOURCE_EXHAUSTED, "0 of 4 are free")
        kept = (await stub.FilterBatch(keep(0, 2))).batch
        assert (kept.id, list(kept.request_ids), kept.size, kept.max_tokens) == (0, [2], 1, LIMITS.context)
        assert told(await stub.Prefill(prefill(2, request(5, THREE)))) == {5: expected(tokens(THREE), 1)}
        assert told(await stub.Decode(decode(0))) == {2: last_tokens(TWO, 2)}


@pytest.mark.proves("generate.v3.TextGenerationService/ClearCache")
async def test_clear_one_and_all(tmp_path: Path) -> None:
    """What is gone, or never was, is no error: a router clears what has failed, and at its start."""
    async with shard(tmp_path) as (stub, _):
        await stub.ClearCache(generate_pb2.ClearCacheRequest())
        await stub.Prefill(prefill(0, request(1, ONE)))
        await stub.Prefill(prefill(1, request(2, TWO)))
        for _ in range(2):
            await stub.ClearCache(generate_pb2.ClearCacheRequest(id=0))
        await refused(stub.Decode(decode(0)), NOT_FOUND, "no batch 0")
        assert told(await stub.Decode(decode(1))) == {2: last_tokens(TWO, 2)}
        await stub.ClearCache(generate_pb2.ClearCacheRequest())
        await refused(stub.FilterBatch(keep(1, 2)), NOT_FOUND, "no batch 1")
        for id in range(LIMITS.rows):
            await stub.Prefill(prefill(id, request(id, ONE)))


async def test_clearing_leaves_the_batches_of_others(tmp_path: Path) -> None:
    """A router that starts does not end what a person walks by hand."""
    async with shard(tmp_path) as (stub, connection):
        walked = await connection.backend.Prefill(
            backend_pb2.PrefillRequest.FromString(prefill(0, request(9, ONE, 8)).SerializeToString())
        )
        await stub.ClearCache(generate_pb2.ClearCacheRequest())
        assert (await connection.remote.decode([walked.batch.id])).batch is not None


async def test_same_id_again_drops_the_batch_before(tmp_path: Path) -> None:
    """As in TGI's cache; its rows are free again, however often."""
    async with shard(tmp_path) as (stub, _):
        for _ in range(LIMITS.rows + 1):
            await stub.Prefill(prefill(0, request(1, ONE), request(2, TWO)))
        assert set(told(await stub.Decode(decode(0)))) == {1, 2}


async def test_expired_batch(tmp_path: Path) -> None:
    """Its row goes to a waiting request; the router is told under its own ids, and may clear them."""
    async with shard(tmp_path, limits=TWO_ROWS, lease_idle_seconds=0.01) as (stub, connection):
        await stub.Prefill(prefill(40, request(1, ONE)))
        await stub.Prefill(prefill(41, request(2, ONE)))
        prompts = [[1, 500], [1, 600]]
        answers = await asyncio.gather(*(reply(connection.remote, tokens_request(each, 2)) for each in prompts))
        assert [ids(answer) for answer in answers] == [expected(each, 2) for each in prompts]
        await refused(stub.Decode(decode(40, 41)), NOT_FOUND, r"`batches`: the lease behind \[40, 41\] expired")
        await refused(stub.FilterBatch(keep(40, 1)), NOT_FOUND, r"`batch_id`: the lease behind \[40\] expired")
        await stub.ClearCache(generate_pb2.ClearCacheRequest(id=40))


async def test_forgotten_batches_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The id that was used least recently is forgotten first."""
    monkeypatch.setattr(generate_v3_batches, "MOST_BATCHES", 2)
    async with shard(tmp_path) as (stub, _):
        await stub.Prefill(prefill(0, request(1, ONE)))
        await stub.Prefill(prefill(1, request(2, TWO)))
        await stub.Decode(decode(0))
        await stub.Prefill(prefill(2, request(3, ONE)))
        await refused(stub.Decode(decode(1)), NOT_FOUND, "no batch 1")
        assert set(told(await stub.Decode(decode(0, 2)))) == {1, 3}


@pytest.mark.parametrize(("text", "step"), [(FAILING, "prefill"), (FAILING_LATER, "decode")])
async def test_failing_backend(text: str, step: str, tmp_path: Path) -> None:
    """The batch is lost and its rows are free; the router clears it and goes on."""
    async with shard(tmp_path) as (stub, _):
        for id in range(LIMITS.rows + 1):
            with pytest.raises(grpc.aio.AioRpcError, match=f"failed in {step}"):
                await prefill_and_decode(stub, id, text)
            await stub.ClearCache(generate_pb2.ClearCacheRequest(id=id))
            await refused(stub.Decode(decode(id)), NOT_FOUND, f"no batch {id}")


async def prefill_and_decode(stub: generate_pb2_grpc.TextGenerationServiceStub, id: int, text: str) -> None:
    await stub.Prefill(prefill(id, request(1, text)))
    await stub.Decode(decode(id))
