"""TGI's shard protocol over gRPC: what is refused and told, and a router that serves its queue."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from runtime.backend import DecodeShape, PrefillShape, ShapePlan, WarmupProgress
from runtime.errors import NotReady
from runtime.hookspecs import hookimpl
from runtime.runtime import Health, Readiness
from runtime.v3 import generate_pb2, generate_pb2_grpc
from support.arithmetic import ArithmeticBackend, expected
from support.planned import PlannedBackend, planned_runtime
from support.router import Entry, Router
from support.rpc import connected
from support.scripted import ScriptedRuntime
from support.serving import LIMITS, MODEL, reply, tokens_request
from support.shard import (
    INVALID,
    NOT_FOUND,
    ONE,
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


async def test_special_tokens_are_added_when_asked_for(tmp_path: Path) -> None:
    """The prompt's own token for the beginning changes the sum, and so the reply."""
    async with shard(tmp_path) as (stub, _):
        without = await stub.Prefill(prefill(0, request(0, ONE, 1)))
        with_bos = await stub.Prefill(prefill(1, request(0, ONE, 1, add_special_tokens=True)))
    assert told(without) == {0: expected(tokens(ONE), 1)}
    assert told(with_bos) == {0: expected(tokens(ONE, bos=True), 1)}
    assert told(without) != told(with_bos)


async def test_bad_requests(tmp_path: Path) -> None:
    """INVALID_ARGUMENT names the field, and the ids are the router's."""
    async with shard(tmp_path) as (stub, _):
        await stub.Prefill(prefill(70, request(1, ONE)))
        await refused(stub.Prefill(prefill(0)), INVALID, r"`batch\.requests`")
        await refused(stub.Prefill(prefill(0, request(1, ONE), request(1, TWO))), INVALID, r"`batch\.requests`")
        await refused(stub.Prefill(prefill(0, request(1, ONE, top_n_tokens=21))), INVALID, "`top_n_tokens`")
        await refused(stub.Prefill(prefill(0, request(1, ONE, 64))), INVALID, "must be <= 64")
        await refused(stub.Prefill(prefill(0, request(1, ONE, adapter_id="a"))), INVALID, "`adapter_id`")
        chunked = generate_pb2.PrefillRequest(cached_batch=generate_pb2.CachedBatch(id=70))
        await refused(stub.Prefill(chunked), INVALID, "`cached_batch`")
        await refused(stub.Decode(decode()), INVALID, "`batches`")
        await refused(stub.Decode(decode(70, 70)), INVALID, "`batches`")
        await refused(stub.FilterBatch(keep(70)), INVALID, "`request_ids`")
        await refused(stub.FilterBatch(keep(71, 1)), NOT_FOUND, "`batch_id`: there is no batch 71")
        assert told(await stub.Decode(decode(70))) == {1: last_tokens(ONE, 2)}


async def test_prompt_and_top_tokens(tmp_path: Path) -> None:
    """With the first token the prompt's, with each token its candidates: 1/2, then 1/4 for the next higher id."""
    async with shard(tmp_path) as (stub, _):
        first = await stub.Prefill(prefill(0, request(1, ONE, prefill_logprobs=True, top_n_tokens=2)))
        second = await stub.Decode(decode(0))
    assert list(first.generations[0].prefill_tokens.ids) == tokens(ONE)
    assert not second.generations[0].HasField("prefill_tokens")
    for step in (first, second):
        (generation,) = step.generations
        (id,), (top,) = generation.tokens.ids, generation.top_tokens
        assert list(top.ids) == [id, id + 1]
        assert list(top.logprobs) == pytest.approx([-0.693147, -1.386294], abs=1e-3)


@pytest.mark.proves("generate.v3.TextGenerationService/Health")
@pytest.mark.parametrize("readiness", Readiness)
async def test_health_follows_the_runtime(tmp_path: Path, readiness: Readiness) -> None:
    """A worker that does not serve says why."""
    health = Health(readiness, "reading weights")
    async with connected(ScriptedRuntime(health=health), tmp_path) as connection:
        call = generate_pb2_grpc.TextGenerationServiceStub(connection.channel).Health(generate_pb2.HealthRequest())
        if readiness is Readiness.READY:
            await call
        else:
            await refused(call, grpc.StatusCode.UNAVAILABLE, "reading weights")


async def test_errors_of_the_runtime(tmp_path: Path) -> None:
    """Each rpc that asks the runtime has its status."""
    async with connected(ScriptedRuntime(NotReady("loading")), tmp_path) as connection:
        stub = generate_pb2_grpc.TextGenerationServiceStub(connection.channel)
        for call in (
            stub.Info(generate_pb2.InfoRequest()),
            stub.Warmup(generate_pb2.WarmupRequest()),
            stub.Prefill(prefill(0, request(1, ONE))),
            stub.Health(generate_pb2.HealthRequest()),
        ):
            await refused(call, grpc.StatusCode.UNAVAILABLE, "loading")


class WarmingBackend(ArithmeticBackend):
    """Counts its warm-ups."""

    warmups = 0

    @hookimpl
    def warmup(self, plan: ShapePlan, progress: Callable[[WarmupProgress], None]) -> None:
        self.warmups += 1
        progress(WarmupProgress(1, 2, PrefillShape(2, 48), 0.5))
        progress(WarmupProgress(2, 2, DecodeShape(4, 64), 0.25))


@pytest.mark.proves("generate.v3.TextGenerationService/Warmup")
async def test_warmup_runs_and_tells_the_capacity(tmp_path: Path) -> None:
    """One answer, after the backend's warm-up."""
    backend = WarmingBackend(MODEL.vocabulary, LIMITS)
    async with shard(tmp_path, backend) as (stub, _):
        assert await stub.Warmup(generate_pb2.WarmupRequest()) == generate_pb2.WarmupResponse(
            max_supported_total_tokens=256, max_input_tokens=48, max_total_tokens=64
        )
        assert backend.warmups == 1
        too_long = stub.Warmup(generate_pb2.WarmupRequest(max_total_tokens=65))
        await refused(too_long, INVALID, "`max_total_tokens` is 65, and the worker takes 64")
        assert backend.warmups == 1


async def test_capacity_is_that_after_the_warm_up(tmp_path: Path) -> None:
    """Which may find out that there is room for fewer rows."""
    backend = PlannedBackend(room=2)
    async with planned_runtime(backend, warm_up=False) as runtime, connected(runtime, tmp_path) as connection:
        await asyncio.wrap_future(runtime.engine.loaded)
        stub = generate_pb2_grpc.TextGenerationServiceStub(connection.channel)
        capacity = await stub.Warmup(generate_pb2.WarmupRequest())
    assert capacity.max_supported_total_tokens == 2 * 64


async def test_a_router_serves_its_queue(tmp_path: Path) -> None:
    """It boots through the socket and batches: newcomers join, replies end, a client hangs up; replies are as alone."""
    router = Router(
        max_input_tokens=LIMITS.prefill_tokens,
        max_total_tokens=LIMITS.context,
        max_batch_prefill_tokens=LIMITS.prefill_rows * LIMITS.prefill_tokens,
        max_batch_size=LIMITS.rows,
    )
    texts = [f"{ONE} {n}" for n in range(9)]
    counts = [3, 12, 1, 30, 7, 2, 9, 16, 5]
    entries: list[Entry] = []

    def submit(places: range) -> None:
        """The length is what makes two prompts fill a prefill, for the worker computes no more together."""
        for place in places:
            gone = 4 if place == 7 else math.inf
            entries.append(
                router.submit(
                    texts[place],
                    max_new_tokens=counts[place],
                    input_length=LIMITS.prefill_tokens,
                    hangs_up_after=gone,
                )
            )

    async with shard(tmp_path) as (_, connection):
        await router.boot(connection.server.address.removeprefix("unix:"))
        assert await router.is_alive()
        submit(range(5))
        await router.run(lambda step: submit(range(5, 9)) if step == 3 else None)
        await router.close()
        await asyncio.gather(*(reply(connection.remote, tokens_request([1, 500])) for _ in range(LIMITS.rows)))
    wanted = [expected(tokens(text, bos=True), count) for text, count in zip(texts, counts, strict=True)]
    wanted[7] = wanted[7][:4]
    assert [entry.ids for entry in entries] == wanted
    steps = {name: [count for step, count in router.calls if step == name] for name in ("prefill", "decode", "filter")}
    assert max(steps["prefill"]) == 2
    assert max(steps["decode"]) == 2
    assert len(steps["filter"]) == 1
