"""The engine through `LocalRuntime`, on the arithmetic backend."""

from __future__ import annotations

import asyncio
import threading
from contextlib import aclosing

import pytest
from runtime.backend import Limits, PrefillBatch, PrefillOutput
from runtime.budgets import Budgets
from runtime.errors import BackendContractError, BackendError, InvalidRequest, NotReady, Overloaded
from runtime.hookspecs import hookimpl
from runtime.runtime import FinishReason, Readiness, StepRequest
from support.arithmetic import FAILS, FAILS_LATER, NOT_A_NUMBER, ArithmeticBackend, expected
from support.gated import GatedBackend, submissions
from support.serving import LIMITS, MODEL, arithmetic_runtime, ids, reply, tokens_request

pytestmark = pytest.mark.anyio


async def test_reply_follows_the_rule() -> None:
    """The tokens are those worked out by hand in the backend's docstring."""
    async with arithmetic_runtime() as runtime:
        answer = await reply(runtime, tokens_request([1, 500, 600], 4))
    assert ids(answer) == [601, 602, 604, 608]
    assert answer.completion is not None
    assert answer.completion.finish_reason is FinishReason.LENGTH
    assert (answer.completion.prompt_tokens, answer.completion.generated_tokens) == (3, 4)


async def test_end_of_sequence_ends_the_reply() -> None:
    """State 300 means the end of sequence, which is told as a special token."""
    async with arithmetic_runtime() as runtime:
        answer = await reply(runtime, tokens_request([300], 8))
    assert ids(answer) == [2]
    assert answer.tokens[0].special
    assert answer.completion is not None
    assert answer.completion.finish_reason is FinishReason.EOS_TOKEN


async def test_many_requests_get_their_own_tokens() -> None:
    """More requests than slots, of different lengths, all get what they would get alone."""
    prompts = [[1, 410 + 7 * n] * (1 + n % 5) for n in range(16)]
    async with arithmetic_runtime() as runtime:
        answers = await asyncio.gather(*(reply(runtime, tokens_request(p, 3 + len(p))) for p in prompts))
    assert [ids(answer) for answer in answers] == [expected(p, 3 + len(p)) for p in prompts]


async def test_newcomer_joins_at_a_step_boundary() -> None:
    """A request that comes while another decodes shares the next steps with it, and neither changes."""
    backend = GatedBackend()
    async with arithmetic_runtime(backend) as runtime:
        async with aclosing(runtime.generate(tokens_request([1, 500], 60))) as first:
            got = ids(await anext(first))
            newcomer = runtime.generate(tokens_request([1, 700], 3))
            joined = asyncio.ensure_future(anext(newcomer))
            while not joined.done():
                backend.gate.release()
                got += ids(await anext(first))
            backend.gate.release(60)
            async for delta in first:
                got += ids(delta)
            joined_ids = ids(await joined) + [token.id async for delta in newcomer for token in delta.tokens]
        assert got == expected([1, 500], 60)
        assert joined_ids == expected([1, 700], 3)
    assert ("decode", 2) in backend.calls


async def test_hang_up_frees_the_slot() -> None:
    """With one slot, closing a stream lets the waiting request run."""
    backend = GatedBackend(limits := Limits(rows=1, context=64, prefill_rows=1, prefill_tokens=48))
    async with arithmetic_runtime(backend, limits) as runtime:
        async with aclosing(runtime.generate(tokens_request([1, 500], 60))) as stream:
            await anext(stream)
            waiting = asyncio.ensure_future(reply(runtime, tokens_request([1, 700], 1)))
        backend.gate.release(1)
        assert ids(await waiting) == expected([1, 700], 1)
    assert sum(rows for hook, rows in backend.calls if hook == "decode") <= 1


async def test_cancelled_while_waiting_never_runs() -> None:
    """A request cancelled before it had a slot costs no prefill."""
    backend = GatedBackend(limits := Limits(rows=1, context=64, prefill_rows=1, prefill_tokens=48))
    async with arithmetic_runtime(backend, limits) as runtime:
        async with aclosing(runtime.generate(tokens_request([1, 500], 3))) as stream:
            await anext(stream)
            waiting = asyncio.ensure_future(reply(runtime, tokens_request([1, 700], 1)))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            backend.gate.release(5)
            assert [delta async for delta in stream][-1].completion is not None
        assert ids(await reply(runtime, tokens_request([1, 600], 1))) == expected([1, 600], 1)
    assert backend.calls.count(("prefill", 1)) == 2


async def test_cancelled_in_its_prefill_frees_the_slot() -> None:
    """A client that hangs up while its prompt is computed costs no decode; the next request takes its place."""

    class GatedPrefill(ArithmeticBackend):
        def __init__(self, limits: Limits) -> None:
            super().__init__(MODEL.vocabulary, limits)
            self.entered, self.gate = threading.Event(), threading.Event()

        @hookimpl
        def prefill(self, batch: PrefillBatch) -> PrefillOutput:
            self.entered.set()
            assert self.gate.wait(30)
            return super().prefill(batch)

    backend = GatedPrefill(limits := Limits(rows=1, context=64, prefill_rows=1, prefill_tokens=48))
    async with arithmetic_runtime(backend, limits) as runtime:
        hanging_up = asyncio.ensure_future(reply(runtime, tokens_request([1, 500], 60)))
        assert await asyncio.to_thread(backend.entered.wait, 30)
        hanging_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hanging_up
        backend.gate.set()
        assert ids(await reply(runtime, tokens_request([1, 700], 1))) == expected([1, 700], 1)
    assert backend.calls == [("prefill", 1), ("prefill", 1)]


async def test_total_budget_limits_what_decodes_together() -> None:
    """Of four requests for 20 tokens each, two share a budget of 40, though four slots are free."""
    backend = GatedBackend()
    prompts = [[1, 500 + n] for n in range(4)]
    async with arithmetic_runtime(backend, budgets=Budgets(prefill_tokens=96, total_tokens=40)) as runtime:
        given = submissions(runtime)
        answers = asyncio.gather(*(reply(runtime, tokens_request(prompt, 18)) for prompt in prompts))
        for _ in prompts:
            await given.acquire()
        backend.gate.release(4 * 18)
        assert [ids(answer) for answer in await answers] == [expected(prompt, 18) for prompt in prompts]
    assert max(rows for hook, rows in backend.calls if hook == "decode") == 2


async def test_prefill_budget_limits_what_is_computed_together() -> None:
    """Two prompts of 10 do not share a prefill of 15."""
    backend = ArithmeticBackend(MODEL.vocabulary, LIMITS)
    prompts = [[1, 500 + n] * 5 for n in range(4)]
    async with arithmetic_runtime(backend, budgets=Budgets(prefill_tokens=15, total_tokens=256)) as runtime:
        answers = await asyncio.gather(*(reply(runtime, tokens_request(prompt, 3)) for prompt in prompts))
    assert [ids(answer) for answer in answers] == [expected(prompt, 3) for prompt in prompts]
    assert [rows for hook, rows in backend.calls if hook == "prefill"] == [1] * 4


async def test_request_beyond_the_budget_is_refused() -> None:
    """It would wait for ever; the next one is served."""
    async with arithmetic_runtime(budgets=Budgets(prefill_tokens=15, total_tokens=40)) as runtime:
        with pytest.raises(InvalidRequest, match="take 41 tokens and all requests together 40"):
            await reply(runtime, tokens_request([1, 500], 39))
        assert ids(await reply(runtime, tokens_request([1, 500], 2))) == expected([1, 500], 2)


async def test_leased_rows_take_their_tokens() -> None:
    """Step operations draw on the same budgets as requests, and give back what they took."""
    budgets = Budgets(prefill_tokens=20, total_tokens=50, queue_threshold_ms=60_000)
    async with arithmetic_runtime(budgets=budgets) as runtime:
        leased = await runtime.prefill([StepRequest(7, tokens_request([1, 500], 28))])
        with pytest.raises(Overloaded, match="22 tokens wanted, 20 of 50 are free now"):
            await runtime.prefill([StepRequest(8, tokens_request([1, 500], 20))])
        with pytest.raises(InvalidRequest, match="costs 24 tokens; one prefill takes 20"):
            await runtime.prefill([StepRequest(n, tokens_request([1] * (6 + 6 * n), 1)) for n in range(2)])
        waiting = asyncio.ensure_future(reply(runtime, tokens_request([1, 600], 30)))
        fits = await reply(runtime, tokens_request([1, 700], 10))
        assert not waiting.done()
        assert leased.batch is not None
        await runtime.release(leased.batch.id)
        assert ids(await waiting) == expected([1, 600], 30)
        assert ids(fits) == expected([1, 700], 10)


async def test_idle_engine_wakes_when_the_queue_s_order_changes() -> None:
    """A short prompt that has no room comes first until the one behind it is overdue, though nobody comes or goes."""
    budgets = Budgets(prefill_tokens=96, total_tokens=60, queue_threshold_ms=200)
    async with arithmetic_runtime(budgets=budgets) as runtime:
        leased = await runtime.prefill([StepRequest(n, tokens_request([1, 500 + n], 28)) for n in range(2)])
        given = submissions(runtime)
        older = asyncio.ensure_future(reply(runtime, tokens_request([1, 2, 700], 10)))
        await given.acquire()
        wide = asyncio.ensure_future(reply(runtime, tokens_request([1, 600], 40)))
        await given.acquire()
        assert leased.batch is not None
        await runtime.filter(leased.batch.id, [0])
        assert ids(await asyncio.wait_for(older, 30)) == expected([1, 2, 700], 10)
        assert not wide.done()
        await runtime.release(leased.batch.id)
        assert ids(await wide) == expected([1, 600], 40)


async def test_failing_prefill_costs_its_request_only() -> None:
    """The error names backend and hook; the next request is served."""
    async with arithmetic_runtime() as runtime:
        with pytest.raises(BackendError, match="backend arithmetic failed in prefill"):
            await reply(runtime, tokens_request([1, FAILS]))
        assert ids(await reply(runtime, tokens_request([1, 500], 2))) == expected([1, 500], 2)


async def test_failing_decode_frees_its_slots() -> None:
    """After a failed step every slot can be used again."""
    async with arithmetic_runtime() as runtime:
        for _ in range(LIMITS.rows + 1):
            with pytest.raises(BackendError, match="failed in decode"):
                await reply(runtime, tokens_request([1, FAILS_LATER]))
        prompts = [[1, 500 + n] for n in range(LIMITS.rows)]
        answers = await asyncio.gather(*(reply(runtime, tokens_request(p, 3)) for p in prompts))
    assert [ids(answer) for answer in answers] == [expected(p, 3) for p in prompts]


async def test_logits_that_are_not_numbers_fail_their_row_only() -> None:
    """A neighbour in the same prefill gets its reply."""
    async with arithmetic_runtime() as runtime:
        bad, good = await asyncio.gather(
            reply(runtime, tokens_request([1, NOT_A_NUMBER])),
            reply(runtime, tokens_request([1, 500], 3)),
            return_exceptions=True,
        )
    assert isinstance(bad, BackendContractError)
    assert "prefill answered logits that are not numbers" in bad.message
    assert not isinstance(good, BaseException)
    assert ids(good) == expected([1, 500], 3)


async def test_seeded_reply_does_not_depend_on_neighbours() -> None:
    """The same seed gives the same tokens alone, in a crowd, and in another slot."""
    request = tokens_request([1, 500], 20, do_sample=True, temperature=1.5, top_p=0.95, seed=7)
    async with arithmetic_runtime() as runtime:
        alone = ids(await reply(runtime, request))
        crowd = [tokens_request([1, 600 + n], 20, do_sample=True, top_k=3, seed=n) for n in range(3)]
        answers = await asyncio.gather(*(reply(runtime, each) for each in [*crowd, request]))
    assert ids(answers[-1]) == alone
    assert alone != expected([1, 500], 20)


async def test_unseeded_replies_differ_and_tell_their_seed() -> None:
    """A drawn seed reproduces the reply; a greedy reply has none."""
    request = tokens_request([1, 500], 20, do_sample=True)
    async with arithmetic_runtime() as runtime:
        first, second = await reply(runtime, request), await reply(runtime, request)
        assert first.completion is not None
        assert first.completion.seed is not None
        again = await reply(runtime, tokens_request([1, 500], 20, do_sample=True, seed=first.completion.seed))
        greedy = await reply(runtime, tokens_request([1, 500], 2))
    assert ids(first) != ids(second)
    assert ids(first) == ids(again)
    assert greedy.completion is not None
    assert greedy.completion.seed is None


async def test_stopping_fails_running_requests() -> None:
    """A stream that is open when the server stops ends with NotReady, and nothing is served after."""
    backend = GatedBackend()
    async with arithmetic_runtime(backend) as runtime:
        stream = runtime.generate(tokens_request([1, 500], 60))
        await anext(stream)
        closing = asyncio.ensure_future(runtime.aclose())
        while runtime.engine._inbox.empty() and not runtime.engine._stopping:  # noqa: ASYNC110
            await asyncio.sleep(0)  # until the order to stop is given: the gate would let the stream end before
        backend.gate.release(60)
        with pytest.raises(NotReady):
            async for _ in stream:
                pass
        await closing
        with pytest.raises(NotReady):
            await reply(runtime, tokens_request([1, 500]))


async def test_dead_device_thread_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """A bug of ours in the loop fails every waiter and turns readiness off."""
    async with arithmetic_runtime() as runtime:
        runtime.engine._batcher._scheduler.next_step = lambda now: 1 / 0  # type: ignore[assignment,return-value]
        with pytest.raises(BackendError, match="the server failed"):
            await reply(runtime, tokens_request([1, 500]))
        await asyncio.wrap_future(runtime.engine.ended)
        health = await runtime.health()
    assert health.readiness is Readiness.FAILED
    assert "ZeroDivisionError" in health.message


async def test_load_failure_is_told() -> None:
    """A model that does not load leaves the reason in `loaded` and in the health."""

    class Broken(ArithmeticBackend):
        def __init__(self) -> None:
            super().__init__(MODEL.vocabulary, LIMITS)

        prefill = None  # type: ignore[assignment]

    with pytest.raises(BackendContractError, match="no hook `prefill`"):
        async with arithmetic_runtime(Broken()):
            pass
