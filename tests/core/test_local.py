"""`LocalRuntime`: what happens to a request before and around the engine."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from runtime.backend import Capacity, Limits, PrefillShape, ShapePlan, WarmupProgress
from runtime.errors import BackendError, InvalidRequest, NotReady, Overloaded
from runtime.hookspecs import hookimpl
from runtime.local import LocalRuntime
from runtime.plugins import Hooks
from runtime.runtime import FinishReason, GenerateRequest, Readiness, SamplingParameters, StepRequest
from support.arithmetic import EOS, ArithmeticBackend, expected
from support.gated import ONE_ROW, GatedBackend
from support.serving import LIMITS, MODEL, TOKENIZER, TokenPrompt, arithmetic_runtime, ids, info, reply, tokens_request
from support.serving import prepare as prepare_tokens

pytestmark = pytest.mark.anyio


class Preparation:
    """Prepares a prompt when the test says so."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.may_end = threading.Event()

    def __call__(self, request: GenerateRequest) -> TokenPrompt:
        self.begun.set()
        assert self.may_end.wait(30)
        return prepare_tokens(request)

    async def begins(self) -> None:
        assert await asyncio.to_thread(self.begun.wait, 30)


async def test_one_request_too_many() -> None:
    """It is refused at once with the numbers, and the ones before it are not disturbed."""
    backend = GatedBackend(ONE_ROW)
    async with arithmetic_runtime(backend, ONE_ROW, max_concurrent_requests=2) as runtime:
        running = [asyncio.ensure_future(reply(runtime, tokens_request([1, 500 + n], 3))) for n in range(2)]
        await backend.started()
        for refused in (
            reply(runtime, tokens_request([1, 500])),
            runtime.tokenize(tokens_request([1, 500])),
            runtime.prefill([StepRequest(1, tokens_request([1, 500]))]),
        ):
            with pytest.raises(Overloaded, match="works on 2 of at most 2 requests"):
                await refused
        backend.gate.release(4)
        answers = await asyncio.gather(*running)
        assert [ids(answer) for answer in answers] == [expected([1, 500 + n], 3) for n in range(2)]
        assert ids(await reply(runtime, tokens_request([1, 600], 1))) == expected([1, 600], 1)


async def test_requests_in_preparation_count() -> None:
    """So that the queue of prompts and pictures is bounded; one that is cancelled there counts no more."""
    preparation = Preparation()
    async with arithmetic_runtime(max_concurrent_requests=1, prepare=preparation) as runtime:
        preparing = asyncio.ensure_future(reply(runtime, tokens_request([1, 500])))
        await preparation.begins()
        with pytest.raises(Overloaded):
            await reply(runtime, tokens_request([1, 600]))
        preparing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await preparing
        preparation.may_end.set()
        assert ids(await reply(runtime, tokens_request([1, 600], 2))) == expected([1, 600], 2)


async def test_a_deadline_that_cannot_be_met() -> None:
    """Is refused as soon as the server knows how long its steps take; one that is far off is not."""
    request = tokens_request([1, 500], 3)
    async with arithmetic_runtime() as runtime:
        await reply(runtime, request)
        with pytest.raises(Overloaded, match=r"and the deadline is in 0\.0 s"):
            await reply(runtime, replace(request, deadline=time.monotonic()))
        answer = await reply(runtime, replace(request, deadline=time.monotonic() + 300))
    assert ids(answer) == expected([1, 500], 3)


async def test_failed_requests_do_not_count() -> None:
    """Whatever a request fails of, the next one is admitted."""

    def refuse(request: GenerateRequest) -> TokenPrompt:
        raise InvalidRequest("no such picture")

    async with arithmetic_runtime(max_concurrent_requests=1, prepare=refuse) as runtime:
        for _ in range(3):
            with pytest.raises(InvalidRequest, match="no such picture"):
                await reply(runtime, tokens_request([1, 500]))
            with pytest.raises(InvalidRequest, match="`top_k`"):
                await reply(runtime, tokens_request([1, 500], top_k=-1))


async def test_parameters_are_checked_before_the_prompt_is_prepared() -> None:
    """Pictures are not decoded for a request that cannot be served."""
    preparation = Preparation()
    async with arithmetic_runtime(prepare=preparation) as runtime:
        with pytest.raises(InvalidRequest, match="`temperature`"):
            await reply(runtime, tokens_request([1, 500], temperature=-1))
        preparation.may_end.set()
    assert not preparation.begun.is_set()


async def test_request_that_just_fits_the_context() -> None:
    """3 prompt tokens leave room for 61 of 64; one more is refused in TGI's words."""
    async with arithmetic_runtime() as runtime:
        answer = await reply(runtime, tokens_request([1, 500, 600], 61))
        assert len(answer.tokens) == 61
        with pytest.raises(InvalidRequest) as caught:
            await reply(runtime, tokens_request([1, 500, 600], 62))
    assert caught.value.message == (
        "`inputs` tokens + `max_new_tokens` must be <= 64."
        " Given: 3 `inputs` tokens and 62 `max_new_tokens`; ask for fewer"
    )


async def test_no_limit_fills_the_context() -> None:
    """Without `max_new_tokens` a reply may use what the prompt leaves."""
    async with arithmetic_runtime() as runtime:
        answer = await reply(runtime, tokens_request([1, 500, 600], None))
        with pytest.raises(InvalidRequest, match="64 `inputs` tokens and 1 `max_new_tokens`"):
            await reply(runtime, tokens_request([1] * 64, None))
    assert ids(answer) == expected([1, 500, 600], 61)
    assert answer.completion is not None
    assert answer.completion.finish_reason is FinishReason.LENGTH


async def test_tokenize_tells_texts_and_special_tokens() -> None:
    """Each token as the model's tokenizer spells it."""
    async with arithmetic_runtime() as runtime:
        tokens = (await runtime.tokenize(tokens_request([1, 500, EOS]))).tokens
    assert [token.id for token in tokens] == [1, 500, EOS]
    assert [token.text for token in tokens] == [TOKENIZER.decode([id], False) for id in (1, 500, EOS)]
    assert [token.special for token in tokens] == [True, False, True]


async def test_info_has_the_capacity_of_the_backend() -> None:
    """A backend that affords fewer rows than asked for is believed."""

    class Small(ArithmeticBackend):
        @hookimpl
        def capacity(self) -> Capacity:
            return Capacity(rows=2, context=64)

    async with arithmetic_runtime(Small(MODEL.vocabulary, LIMITS)) as runtime:
        told = await runtime.info()
    assert told.max_batch_size == 2
    assert told.max_total_tokens == info().max_total_tokens


class SlowLoading:
    """A runtime whose model is loaded when the test says so."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.may_load = threading.Event()

        def load() -> Hooks:
            assert self.may_load.wait(30)
            return Hooks("arithmetic", ArithmeticBackend(MODEL.vocabulary, limits), MODEL, limits)

        self.runtime = LocalRuntime(
            load=load,
            prepare=prepare_tokens,
            vocabulary=TOKENIZER,
            eos_ids=frozenset({EOS}),
            info=info(limits),
            max_stop_sequences=4,
            lease_idle_seconds=300,
        )


async def test_before_the_model_is_loaded() -> None:
    """Facts, health and tokens are told; what needs the model says what it waits for. Nothing waits."""
    slow = SlowLoading()
    runtime = slow.runtime
    try:
        assert (await runtime.health()).readiness is Readiness.LOADING
        assert await runtime.info() == info()
        told = await runtime.tokenize(tokens_request([1, 500]))
        assert (len(told.tokens), told.cost.bucket, told.cost.padding) == (2, None, None)
        for refused in (
            reply(runtime, tokens_request([1, 500])),
            runtime.prefill([StepRequest(1, tokens_request([1, 500]))]),
            runtime.concatenate([1]),
            runtime.decode([1]),
            runtime.filter(1, [1]),
            runtime.release(None),
            anext(runtime.warmup()),
        ):
            with pytest.raises(NotReady, match="loading the model"):
                await refused
        slow.may_load.set()
        await asyncio.wrap_future(runtime.engine.loaded)
        assert (await runtime.health()).readiness is Readiness.READY
        assert ids(await reply(runtime, tokens_request([1, 500], 2))) == expected([1, 500], 2)
    finally:
        slow.may_load.set()
        await runtime.aclose()


async def test_server_that_stops_while_a_prompt_is_prepared() -> None:
    """The request is told, rather than left waiting for an engine that is no more."""
    preparation = Preparation()
    async with arithmetic_runtime(prepare=preparation) as runtime:
        preparing = asyncio.ensure_future(reply(runtime, tokens_request([1, 500])))
        await preparation.begins()
        await asyncio.to_thread(runtime.engine.stop)
        preparation.may_end.set()
        with pytest.raises(NotReady, match="the server is stopping"):
            await preparing


async def test_warmup_without_a_hook() -> None:
    """A backend that takes any shape has nothing to warm."""
    async with arithmetic_runtime() as runtime:
        assert [progress async for progress in runtime.warmup()] == []


async def test_warmup_that_fails_after_a_shape() -> None:
    """What was warmed is told, then the error; requests are served all the same."""
    shape = WarmupProgress(1, 2, PrefillShape(1, 8), 0.5)

    class Failing(ArithmeticBackend):
        @hookimpl
        def warmup(self, plan: ShapePlan, progress: Callable[[WarmupProgress], None]) -> None:
            progress(shape)
            raise RuntimeError("no memory")

    async with arithmetic_runtime(Failing(MODEL.vocabulary, LIMITS)) as runtime:
        warming = runtime.warmup()
        assert await anext(warming) == shape
        with pytest.raises(BackendError, match="failed in warmup"):
            await anext(warming)
        assert ids(await reply(runtime, tokens_request([1, 500], 1))) == expected([1, 500], 1)


@pytest.mark.parametrize(
    ("sampling", "seeded"),
    [
        (SamplingParameters(), False),
        (SamplingParameters(seed=5), False),
        (SamplingParameters(do_sample=True, seed=5), True),
        (SamplingParameters(top_k=3, seed=0), True),
    ],
)
async def test_seed_is_told_when_it_mattered(sampling: SamplingParameters, seeded: bool) -> None:
    """As TGI does: null for a greedy reply, whatever was sent."""
    request = tokens_request([1, 500], 1)
    request = GenerateRequest(parts=request.parts, sampling=sampling, stopping=request.stopping)
    async with arithmetic_runtime() as runtime:
        completion = (await reply(runtime, request)).completion
    assert completion is not None
    assert completion.seed == (sampling.seed if seeded else None)


async def test_cancelled_prefill_leases_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step whose caller is gone before the device comes to it is not done."""
    backend, queued = GatedBackend(ONE_ROW), asyncio.Event()
    async with arithmetic_runtime(backend, ONE_ROW) as runtime:
        call = runtime.engine.call

        def watched(work: Any) -> Any:
            queued.set()
            return call(work)

        monkeypatch.setattr(runtime.engine, "call", watched)
        first = asyncio.ensure_future(reply(runtime, tokens_request([1, 500], 2)))
        await backend.started()
        step = asyncio.ensure_future(runtime.prefill([StepRequest(1, tokens_request([1, 600]))]))
        await queued.wait()
        step.cancel()
        with pytest.raises(asyncio.CancelledError):
            await step
        backend.gate.release(1)
        assert ids(await first) == expected([1, 500], 2)
        assert ids(await reply(runtime, tokens_request([1, 700], 1))) == expected([1, 700], 1)
    assert backend.count("prefill") == 2
