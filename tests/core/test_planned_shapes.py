"""The engine with a backend of static shapes: what it warms, what is told meanwhile, and what it sees in service."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from runtime.backend import DecodeShape, Limits, PrefillShape, Shape
from runtime.budgets import Budgets
from runtime.errors import BackendRefused, InvalidRequest, NotReady, UnknownBatch
from runtime.local import LocalRuntime
from runtime.runtime import GenerateRequest, Readiness, StepRequest
from runtime.shapes import Ladders
from support.arithmetic import expected
from support.planned import PlannedBackend, planned_runtime
from support.scrape import read_scrape
from support.serving import ids, reply, tokens_request

pytestmark = pytest.mark.anyio

LIMITS = Limits(rows=6, context=256, prefill_rows=4, prefill_tokens=200)


class Gate:
    """Holds a warm-up before one of its shapes."""

    def __init__(self, backend: PlannedBackend, at: int) -> None:
        self.backend = backend
        self.at = at
        self.reached, self.may_pass = threading.Event(), threading.Event()
        backend.before = self._before

    def _before(self, shape: Shape) -> None:
        if len(self.backend.warmed) == self.at:
            self.reached.set()
            assert self.may_pass.wait(30)

    async def is_reached(self) -> None:
        assert await asyncio.to_thread(self.reached.wait, 30)


@asynccontextmanager
async def warming() -> AsyncIterator[tuple[LocalRuntime, Gate]]:
    """A runtime that waits in its warm-up, after two shapes."""
    backend = PlannedBackend()
    gate = Gate(backend, at=2)
    async with planned_runtime(backend) as runtime:
        try:
            await gate.is_reached()
            yield runtime, gate
        finally:
            gate.may_pass.set()


async def ready(runtime: LocalRuntime) -> None:
    await asyncio.wrap_future(runtime.engine.loaded)


async def test_while_it_warms() -> None:
    """Not ready, with how far it is; facts and tokens are told, the rest is refused and nothing waits for it."""
    async with warming() as (runtime, gate):
        health = await runtime.health()
        total = len(gate.backend.plan.prefill) + len(gate.backend.plan.decode)
        assert health.readiness is Readiness.WARMING
        assert health.message.startswith(f"warming up: 2 of {total} shapes, prefill ")
        details = (await runtime.info()).details
        assert (details["warmup"], details["warmup_done"], details["warmup_total"]) == ("running", "2", str(total))
        scraped = read_scrape(await runtime.metrics())
        assert scraped["runtime_warmup_shapes"].values == {"warmed": 2, "left": total - 2}
        assert len((await runtime.tokenize(tokens_request([1, 500]))).tokens) == 2
        for refused in (
            reply(runtime, tokens_request([1, 500])),
            runtime.prefill([StepRequest(1, tokens_request([1, 500]))]),
            runtime.release(None),
            anext(runtime.warmup()),
        ):
            with pytest.raises(NotReady, match=r"not served now: warming up: 2 of \d+ shapes"):
                await refused
        assert runtime.engine._inbox.empty()
        gate.may_pass.set()
        await ready(runtime)
        assert (await runtime.health()).readiness is Readiness.READY
        assert ids(await reply(runtime, tokens_request([1, 500], 2))) == expected([1, 500], 2)


async def test_shape_that_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """The health tells for how long, and when all may be done."""
    async with warming() as (runtime, _gate):
        began = runtime.engine._busy_since
        assert began is not None
        monkeypatch.setattr(runtime.engine, "_clock", lambda: began + 9)
        before = await runtime.health()
        assert before.message == runtime.engine.health.message
        assert before.seconds_left is not None
        monkeypatch.setattr(runtime.engine, "_clock", lambda: began + 12)
        after = await runtime.health()
        assert after.message == f"{before.message}; at the next shape for 12 s"
        assert (before.busy_seconds, after.busy_seconds) == (9, 12)


async def test_every_shape_of_a_warm_up_is_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else one that is asked for by hand would count as a device that hangs."""
    backend = PlannedBackend()
    async with planned_runtime(backend) as runtime:
        await ready(runtime)
        now, busy = [0.0], []
        monkeypatch.setattr(runtime.engine, "_clock", lambda: now[0])

        def before(_shape: Shape) -> None:
            now[0] += 50
            busy.append(runtime.engine.report().busy_seconds)

        backend.before = before
        async for _ in runtime.warmup():
            pass
        assert set(busy) == {50.0}


async def test_stop_ends_it_at_the_next_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shape at work is the last."""
    async with warming() as (runtime, gate):
        interrupt = runtime.engine.preparation.interrupt

        def interrupted() -> None:
            interrupt()
            gate.may_pass.set()

        monkeypatch.setattr(runtime.engine.preparation, "interrupt", interrupted)
        await runtime.aclose()
        assert len(gate.backend.warmed) == 3
        assert runtime.engine.loaded.cancelled()
        assert (await runtime.health()).message == "the server is stopping"


async def test_failed_warm_up_is_told() -> None:
    """As a model that does not load."""
    backend = PlannedBackend(room=1)
    async with planned_runtime(backend) as runtime:
        with pytest.raises(BackendRefused, match="room for 1 rows"):
            await ready(runtime)
        assert (await runtime.health()).readiness is Readiness.FAILED


async def test_fewer_rows_are_served() -> None:
    """Facts, slots and budgets are of the rows there are, and more requests than that get their replies."""
    backend = PlannedBackend(room=3)
    async with planned_runtime(backend) as runtime:
        await ready(runtime)
        info = await runtime.info()
        assert (info.max_batch_size, info.max_batch_total_tokens, info.max_total_tokens) == (2, 128, 64)
        assert read_scrape(await runtime.metrics())["runtime_rows"].values == {"": 2}
        prompts = [[1, 410 + 7 * n] * (1 + n % 5) for n in range(8)]
        answers = await asyncio.gather(*(reply(runtime, tokens_request(prompt, 9)) for prompt in prompts))
        assert [ids(answer) for answer in answers] == [expected(prompt, 9) for prompt in prompts]
    assert backend.unknown == 0
    assert max(shape.rows for shape in backend.met if isinstance(shape, DecodeShape)) == 2


async def test_warm_up_once_more() -> None:
    """With the plan; whoever runs goes on after it."""
    backend = PlannedBackend()
    async with planned_runtime(backend) as runtime:
        await ready(runtime)
        stream = runtime.generate(tokens_request([1, 500], 40))
        got = ids(await anext(stream))
        told = [progress async for progress in runtime.warmup()]
        assert [progress.shape for progress in told] == backend.warmed
        assert {*backend.warmed} == {*backend.plan.prefill, *backend.plan.decode}
        assert [progress.done for progress in told] == list(range(1, len(backend.warmed) + 1))
        got += [token.id async for delta in stream for token in delta.tokens]
    assert got == expected([1, 500], 40)
    assert backend.unknown == 0


async def test_fewer_rows_after_a_later_warm_up() -> None:
    """The rows are given up and told so; the server goes on with fewer."""
    backend = PlannedBackend()
    async with planned_runtime(backend, warm_up=False) as runtime:
        await ready(runtime)
        leased = await runtime.prefill([StepRequest(7, tokens_request([1, 500], 9))])
        stream = runtime.generate(tokens_request([1, 600], 60))
        await anext(stream)
        backend.room = 2
        told = [progress async for progress in runtime.warmup()]
        assert (told[-1].done, (await runtime.info()).max_batch_size) == (told[-1].total, 2)
        with pytest.raises(NotReady, match="room for fewer after the warm-up; try again"):
            async for _ in stream:
                pass
        assert leased.batch is not None
        with pytest.raises(UnknownBatch):
            await runtime.decode([leased.batch.id])
        assert ids(await reply(runtime, tokens_request([1, 700], 5))) == expected([1, 700], 5)
        assert (await runtime.info()).details["warmup"] == "done"


async def test_no_room_after_a_later_warm_up() -> None:
    """Then nothing can be served any more, and the server ends."""
    backend = PlannedBackend()
    async with planned_runtime(backend, warm_up=False) as runtime:
        await ready(runtime)
        backend.room = 1
        with pytest.raises(BackendRefused, match="room for 1 rows"):
            _ = [progress async for progress in runtime.warmup()]
        await asyncio.wrap_future(runtime.engine.ended)
        with pytest.raises(NotReady):
            await reply(runtime, tokens_request([1, 500]))


async def test_unknown_shapes_are_counted() -> None:
    """Without a warm-up each shape is unknown when it is met; /metrics has what the backend counts."""
    backend = PlannedBackend()
    async with planned_runtime(backend, warm_up=False) as runtime:
        await ready(runtime)
        for _ in range(2):
            await reply(runtime, tokens_request([1, 500], 1))
        assert read_scrape(await runtime.metrics())["runtime_backend_stat"].values == {"unknown_shapes": 2}


def conversations(chance: random.Random, count: int) -> list[tuple[list[int], int]]:
    """Prompts of any length and the tokens asked for; half of them go on where an earlier one ended."""
    prompts: list[tuple[list[int], int]] = []
    for _ in range(count):
        before = chance.choice(prompts)[0] if prompts and chance.random() < 0.5 else []
        length = chance.choice((1, 3, 16, 17, 40, 90, 150))
        prompt = [*before, *(chance.randrange(400, 700) for _ in range(length))][: LIMITS.prefill_tokens]
        prompts.append((prompt, chance.randint(1, min(30, LIMITS.context - len(prompt)))))
    return prompts


@pytest.mark.parametrize(
    ("ladders", "chunk", "reuse", "room"),
    [
        (Ladders.linear(16, 1, 1), None, False, 6),
        (Ladders.linear(32, 4, 8), None, True, 6),
        (Ladders.linear(16, 2, 2), 48, False, 6),
        (Ladders.exponential(16, 2, 3), 40, True, 6),
        (Ladders.linear(64, 3, 2), 64, True, 5),
    ],
    ids=["every row", "reuse", "parts", "parts and reuse", "fewer rows"],
)
async def test_random_requests_meet_planned_shapes_only(
    ladders: Ladders, chunk: int | None, reuse: bool, room: int
) -> None:
    """300 in a crowd, some hung up, and step operations among them: none is unknown, and all replies are right."""
    chance = random.Random(7)
    backend = PlannedBackend(limits=LIMITS, room=room)
    budgets = Budgets(prefill_tokens=500, total_tokens=1100)
    async with planned_runtime(
        backend,
        ladders,
        budgets,
        reuse_prefixes=reuse,
        prefill_chunk=chunk,
        max_concurrent_requests=24,
    ) as runtime:
        await ready(runtime)
        crowd = asyncio.Semaphore(20)

        async def ask(prompt: list[int], count: int, hang_up: bool) -> None:
            async with crowd:
                got = []
                request: GenerateRequest = tokens_request(prompt, count)
                async for delta in runtime.generate(request):
                    got += ids(delta)
                    if hang_up:
                        break
            assert got == expected(prompt, count)[: len(got)]
            assert hang_up or len(got) == len(expected(prompt, count))

        await asyncio.gather(
            *(ask(prompt, count, chance.random() < 0.1) for prompt, count in conversations(chance, 300))
        )
        for length in (70, 90):  # one after the other, so that the second finds the first
            await ask([450] * length, 3, False)
        scraped = read_scrape(await runtime.metrics())
    prefills = [shape for shape in backend.met if isinstance(shape, PrefillShape)]
    assert backend.unknown == 0
    assert {*backend.met} <= {*backend.plan.prefill, *backend.plan.decode}
    assert len({*backend.met}) > 5
    assert any(shape.cached for shape in prefills) is (reuse or chunk is not None)
    assert (scraped["runtime_prefix_reused_tokens_total"].values[""] > 0) is reuse


async def test_step_operations_meet_planned_shapes_only() -> None:
    """Every batch that a caller may lease has a shape, or is refused and leases nothing."""
    chance = random.Random(3)
    backend = PlannedBackend(limits=LIMITS)
    budgets = Budgets(prefill_tokens=500, total_tokens=1100)
    async with planned_runtime(backend, Ladders.linear(64, 3, 4), budgets) as runtime:
        await ready(runtime)
        refusals = []
        for _ in range(150):
            lengths = [chance.randint(1, 200) for _ in range(chance.randint(1, 4))]
            requests = [StepRequest(id, tokens_request([500] * n, 3)) for id, n in enumerate(lengths)]
            try:
                step = await runtime.prefill(requests)
            except InvalidRequest as error:
                refusals.append(error.message)
            else:
                if step.batch is not None:
                    await runtime.decode([step.batch.id])
            await runtime.release(None)
        for _ in range(LIMITS.rows):  # all are free still
            await runtime.prefill([StepRequest(1, tokens_request([500], 3))])
        assert 0 < len(refusals) < 150
        assert all("prefill takes" in refusal for refusal in refusals)
    assert backend.unknown == 0
