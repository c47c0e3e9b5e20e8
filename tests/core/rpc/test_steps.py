"""Step operations over gRPC: a request walked by hand, alone and beside normal traffic."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import grpc
import pytest
from runtime.backend import DecodeShape, PrefillShape, ShapePlan, WarmupProgress
from runtime.hookspecs import hookimpl
from runtime.rpc import convert
from runtime.runtime import StepRequest
from runtime.v1 import backend_pb2, messages_pb2
from support.arithmetic import FAILS, FAILS_LATER, ArithmeticBackend, expected
from support.gated import ONE_ROW
from support.rpc import connected
from support.serving import LIMITS, MODEL, arithmetic_runtime, ids, reply, tokens_request

pytestmark = pytest.mark.anyio

ONE, TWO = [1, 500, 600], [1, 410]


def prefill(prompts: dict[int, Sequence[int]], count: int = 8) -> backend_pb2.PrefillRequest:
    """Prompts by request id."""
    requests = [convert.request_message(tokens_request(prompt, count), id) for id, prompt in prompts.items()]
    return backend_pb2.PrefillRequest(batch=backend_pb2.Batch(requests=requests))


def decode(*batch_ids: int) -> backend_pb2.DecodeRequest:
    return backend_pb2.DecodeRequest(batches=[messages_pb2.CachedBatch(id=id) for id in batch_ids])


def concatenate(*batch_ids: int) -> backend_pb2.ConcatenateRequest:
    return backend_pb2.ConcatenateRequest(batches=[messages_pb2.CachedBatch(id=id) for id in batch_ids])


def told(response: backend_pb2.PrefillResponse | backend_pb2.DecodeResponse) -> dict[int, list[int]]:
    """Token ids by request id."""
    return {delta.request_id: list(delta.tokens.ids) for delta in response.generations}


async def refused(call: grpc.aio.UnaryUnaryCall, code: grpc.StatusCode, text: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match=text) as caught:
        await call
    assert caught.value.code() is code


@pytest.mark.proves("runtime.v1.Backend/Prefill", "runtime.v1.Backend/Decode")
async def test_one_request_walked_to_its_end(tmp_path: Path) -> None:
    """Prefill, Concatenate, then Decode until the batch is gone: 601, 602, 604 by the backend's rule."""
    async with arithmetic_runtime() as runtime, connected(runtime, tmp_path) as connection:
        backend = connection.backend
        first = await backend.Prefill(prefill({7: ONE}, count=3))
        assert told(first) == {7: [601]}
        batch = first.batch
        assert (list(batch.request_ids), batch.size, batch.max_tokens) == ([7], 1, 4)
        joined = (await backend.Concatenate(concatenate(batch.id))).batch
        assert joined == batch
        second = await backend.Decode(decode(batch.id))
        assert told(second) == {7: [602]}
        assert second.batch.max_tokens == 5
        third = await backend.Decode(decode(batch.id))
        assert told(third) == {7: [604]}
        assert third.generations[0].generated_text.generated_tokens == 3
        assert not third.HasField("batch")
        await refused(backend.Decode(decode(batch.id)), grpc.StatusCode.NOT_FOUND, f"no batch {batch.id}")


async def test_times_are_told(tmp_path: Path) -> None:
    """The parts are no longer than the whole."""
    async with arithmetic_runtime() as runtime, connected(runtime, tmp_path) as connection:
        first = await connection.backend.Prefill(prefill({7: ONE}))
        second = await connection.backend.Decode(decode(first.batch.id))
    for response in (first, second):
        assert 0 < response.forward_ns + response.decode_ns <= response.total_ns


@pytest.mark.parametrize("explicit", [True, False])
@pytest.mark.proves("runtime.v1.Backend/Concatenate")
async def test_two_prefills_joined(explicit: bool, tmp_path: Path) -> None:
    """By Concatenate, or by a Decode of both: they go on as one batch that keeps the first id."""
    async with arithmetic_runtime() as runtime, connected(runtime, tmp_path) as connection:
        backend = connection.backend
        one = (await backend.Prefill(prefill({7: ONE, 8: TWO}))).batch
        two = (await backend.Prefill(prefill({9: [1, 444]}))).batch
        if explicit:
            joined = (await backend.Concatenate(concatenate(one.id, two.id))).batch
            assert (joined.id, list(joined.request_ids)) == (one.id, [7, 8, 9])
            step = await backend.Decode(decode(one.id))
        else:
            step = await backend.Decode(decode(one.id, two.id))
        assert told(step) == {7: expected(ONE, 2)[1:], 8: expected(TWO, 2)[1:], 9: expected([1, 444], 2)[1:]}
        assert step.batch.id == one.id
        await refused(backend.Decode(decode(two.id)), grpc.StatusCode.NOT_FOUND, f"no batch {two.id}")


@pytest.mark.proves("runtime.v1.Backend/Filter")
async def test_filter_keeps_and_frees(tmp_path: Path) -> None:
    """The kept request goes on; the other's row can be leased again."""
    async with arithmetic_runtime() as runtime, connected(runtime, tmp_path) as connection:
        backend = connection.backend
        one = (await backend.Prefill(prefill({7: ONE, 8: TWO}))).batch
        await backend.Prefill(prefill({1: ONE, 2: ONE}))
        await refused(backend.Prefill(prefill({3: ONE})), grpc.StatusCode.RESOURCE_EXHAUSTED, "0 of 4 are free")
        kept = (await backend.Filter(backend_pb2.FilterRequest(batch_id=one.id, request_ids=[8]))).batch
        assert (kept.id, list(kept.request_ids), kept.size) == (one.id, [8], 1)
        assert told(await backend.Prefill(prefill({3: ONE}))) == {3: [601]}
        assert told(await backend.Decode(decode(one.id))) == {8: expected(TWO, 2)[1:]}


@pytest.mark.proves("runtime.v1.Backend/Release")
async def test_release_of_one_batch_and_of_all(tmp_path: Path) -> None:
    """Rows are free at once, and the batches are gone."""
    async with arithmetic_runtime() as runtime, connected(runtime, tmp_path) as connection:
        backend = connection.backend
        one = (await backend.Prefill(prefill({7: ONE, 8: TWO}))).batch
        two = (await backend.Prefill(prefill({7: ONE, 8: TWO}))).batch
        await backend.Release(backend_pb2.ReleaseRequest(id=one.id))
        await refused(
            backend.Release(backend_pb2.ReleaseRequest(id=one.id)), grpc.StatusCode.NOT_FOUND, f"no batch {one.id}"
        )
        assert (await backend.Decode(decode(two.id))).batch.id == two.id
        await backend.Release(backend_pb2.ReleaseRequest())
        await refused(backend.Decode(decode(two.id)), grpc.StatusCode.NOT_FOUND, f"no batch {two.id}")
        await asyncio.gather(*(backend.Prefill(prefill({7: ONE, 8: TWO})) for _ in range(2)))


async def test_idle_lease_gives_its_row_to_normal_traffic(tmp_path: Path) -> None:
    """The only row is leased and nobody comes back; a waiting request runs when the lease ends, with no one's help."""
    async with (
        arithmetic_runtime(limits=ONE_ROW, lease_idle_seconds=0.01) as runtime,
        connected(runtime, tmp_path) as connection,
    ):
        await connection.backend.Prefill(prefill({7: ONE}))
        assert ids(await reply(connection.remote, tokens_request(TWO, 2))) == expected(TWO, 2)


async def test_beside_normal_traffic(tmp_path: Path) -> None:
    """Streams and a batch driven by hand share the table; both get the tokens they would get alone."""
    prompts = [[1, 410 + 7 * n] for n in range(8)]
    async with arithmetic_runtime() as runtime, connected(runtime, tmp_path) as connection:
        backend = connection.backend
        first = await backend.Prefill(prefill({7: ONE, 8: TWO}, count=20))
        by_hand = told(first)
        streams = asyncio.gather(*(reply(connection.remote, tokens_request(each, 20)) for each in prompts))
        batch = first.batch.id
        for _ in range(19):
            step = await backend.Decode(decode(batch))
            for id, tokens in told(step).items():
                by_hand[id] += tokens
        assert not step.HasField("batch")
        answers = await streams
    assert by_hand == {7: expected(ONE, 20), 8: expected(TWO, 20)}
    assert [ids(answer) for answer in answers] == [expected(each, 20) for each in prompts]


async def test_bad_requests(tmp_path: Path) -> None:
    """INVALID_ARGUMENT names the field."""
    invalid = grpc.StatusCode.INVALID_ARGUMENT
    async with arithmetic_runtime() as runtime, connected(runtime, tmp_path) as connection:
        backend = connection.backend
        batch = (await backend.Prefill(prefill({7: ONE}))).batch
        await refused(backend.Prefill(prefill({})), invalid, r"`batch\.requests`")
        await refused(backend.Prefill(prefill({1: ONE, 2: ONE, 3: ONE})), invalid, r"`batch\.requests` holds 3")
        twice = prefill({1: ONE})
        twice.batch.requests.append(twice.batch.requests[0])
        await refused(backend.Prefill(twice), invalid, r"`batch\.requests`")
        top_n = prefill({1: ONE})
        top_n.batch.requests[0].top_n_tokens = 21
        await refused(backend.Prefill(top_n), invalid, "`top_n_tokens`")
        negative = prefill({1: ONE})
        negative.batch.requests[0].parameters.temperature = -1
        await refused(backend.Prefill(negative), invalid, "`temperature`")
        await refused(backend.Prefill(prefill({1: ONE}, count=62)), invalid, "must be <= 64. Given: 3 .* and 62")
        await refused(backend.Decode(decode()), invalid, "`batches`")
        await refused(backend.Decode(decode(batch.id, batch.id)), invalid, "`batches`")
        for ids_ in ([], [8], [7, 8]):
            message = backend_pb2.FilterRequest(batch_id=batch.id, request_ids=ids_)
            await refused(backend.Filter(message), invalid, "`request_ids`")
        again = (await backend.Prefill(prefill({7: ONE}))).batch
        await refused(backend.Concatenate(concatenate(batch.id, again.id)), invalid, "`batches` share request ids")
        assert told(await backend.Decode(decode(batch.id))) == {7: [602]}


async def test_unknown_batch(tmp_path: Path) -> None:
    """NOT_FOUND names the batch, from each operation that takes one."""
    async with arithmetic_runtime() as runtime, connected(runtime, tmp_path) as connection:
        backend = connection.backend
        for call in (
            backend.Concatenate(concatenate(5)),
            backend.Decode(decode(5)),
            backend.Filter(backend_pb2.FilterRequest(batch_id=5, request_ids=[1])),
            backend.Release(backend_pb2.ReleaseRequest(id=5)),
        ):
            await refused(call, grpc.StatusCode.NOT_FOUND, "there is no batch 5")
        nobody = backend.Release(backend_pb2.ReleaseRequest(id=0))  # not the same as absent, which means all
        await refused(nobody, grpc.StatusCode.NOT_FOUND, "there is no batch 0")


async def test_failing_backend_ends_the_batch_only(tmp_path: Path) -> None:
    """In prefill or in decode: the rows are free again."""
    async with arithmetic_runtime() as runtime, connected(runtime, tmp_path) as connection:
        backend = connection.backend
        for _ in range(LIMITS.rows):
            await refused(backend.Prefill(prefill({1: [1, FAILS]})), grpc.StatusCode.INTERNAL, "failed in prefill")
            batch = (await backend.Prefill(prefill({1: [1, FAILS_LATER], 2: ONE}))).batch
            await refused(backend.Decode(decode(batch.id)), grpc.StatusCode.INTERNAL, "failed in decode")
            await refused(backend.Decode(decode(batch.id)), grpc.StatusCode.NOT_FOUND, "no batch")


async def test_through_the_runtime_of_the_gateway(tmp_path: Path) -> None:
    """`RemoteRuntime` passes each operation on, in our own types."""
    async with arithmetic_runtime() as runtime, connected(runtime, tmp_path) as connection:
        remote = connection.remote
        one = await remote.prefill([StepRequest(7, tokens_request(ONE, 3)), StepRequest(8, tokens_request(TWO, 3))])
        two = await remote.prefill([StepRequest(9, tokens_request([1, 444], 3))])
        assert [(id, ids(delta)) for id, delta in one.deltas] == [(7, [601]), (8, expected(TWO, 1))]
        assert one.batch is not None
        assert two.batch is not None
        assert (await remote.concatenate([one.batch.id, two.batch.id])).request_ids == (7, 8, 9)
        assert (await remote.filter(one.batch.id, [7, 9])).request_ids == (7, 9)
        step = await remote.decode([one.batch.id])
        assert [(id, ids(delta)) for id, delta in step.deltas] == [(7, [602]), (9, expected([1, 444], 2)[1:])]
        end = await remote.decode([one.batch.id])
        assert end.batch is None
        assert all(delta.completion is not None for _, delta in end.deltas)
        await remote.release(None)


async def test_first_token_may_be_the_last(tmp_path: Path) -> None:
    """A prefill whose requests all end leases nothing."""
    async with arithmetic_runtime() as runtime, connected(runtime, tmp_path) as connection:
        for _ in range(LIMITS.rows):
            response = await connection.backend.Prefill(prefill({1: ONE, 2: [300]}, count=1))
            assert told(response) == {1: [601], 2: [2]}
            assert not response.HasField("batch")


class WarmingBackend(ArithmeticBackend):
    """Warms one shape of each kind."""

    @hookimpl
    def warmup(self, plan: ShapePlan, progress: Callable[[WarmupProgress], None]) -> None:
        progress(WarmupProgress(1, 2, PrefillShape(2, 48), 0.5))
        progress(WarmupProgress(2, 2, DecodeShape(4, 64), 0.25))


@pytest.mark.proves("runtime.v1.Backend/Warmup")
async def test_warmup_streams(tmp_path: Path) -> None:
    """One message per warmed shape, in order; requests are served after it."""
    backend = WarmingBackend(MODEL.vocabulary, LIMITS)
    async with arithmetic_runtime(backend) as runtime, connected(runtime, tmp_path) as connection:
        messages = [each async for each in connection.backend.Warmup(backend_pb2.WarmupRequest())]
        assert [(each.done, each.total, each.WhichOneof("shape"), each.seconds) for each in messages] == [
            (1, 2, "prefill", 0.5),
            (2, 2, "decode", 0.25),
        ]
        assert [progress.shape async for progress in connection.remote.warmup()] == [
            PrefillShape(2, 48),
            DecodeShape(4, 64),
        ]
        assert ids(await reply(connection.remote, tokens_request(ONE, 1))) == [601]
