"""What the shadow follows of what is served; sums in place of a model tell whether it is all of it, and right."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from runtime.backend import Capacity, Limits
from runtime.errors import BackendError
from runtime.hookspecs import hookimpl
from runtime.shadow.wrapper import LONGEST, TOGETHER, Followed, Shadow
from support.arithmetic import FAILS, FAILS_LATER, ArithmeticBackend, expected
from support.resuming import LIMITS as LONG
from support.resuming import ResumingBackend
from support.serving import LIMITS, MODEL, arithmetic_runtime, ids, reply, tokens_request

pytestmark = pytest.mark.anyio

PROMPT = [1, 500, 600]
WIDE = Limits(rows=8, context=64, prefill_rows=8, prefill_tokens=48)


class Taken:
    """The rows that were handed on, and why others were not."""

    def __init__(self) -> None:
        self.rows: list[Followed] = []
        self.drops: list[str] = []
        self.is_busy = False

    def put(self, row: Followed) -> None:
        self.rows.append(row)

    def drop(self, reason: str) -> None:
        self.drops.append(reason)

    def told(self) -> list[tuple[list[int], list[int]]]:
        """Each row's prompt, and the tokens that its logits prefer; what was decoded is those but the last."""
        told = []
        for row in self.rows:
            best = [int(logits.argmax()) for logits in row.logits]
            assert row.reply[: len(best) - 1] == best[:-1]
            told.append((row.prompt.tokens, best))
        return told


async def serve(prompts: Sequence[Sequence[int]], taken: Any, count: int = 4, rate: float = 1.0, **served: Any) -> None:
    """Serve prompts one after the other with a shadow, and check that it changes no reply."""
    async with arithmetic_runtime(wrappers=[Shadow(MODEL, rate, taken)], **served) as runtime:
        for prompt in prompts:
            assert ids(await reply(runtime, tokens_request(prompt, count))) == expected(prompt, count)


async def test_prompt_and_reply() -> None:
    """The logits after the prompt and after each token but the last, which is never decoded."""
    taken = Taken()
    await serve([PROMPT], taken)
    assert taken.told() == [(PROMPT, expected(PROMPT, 4))]
    assert taken.rows[0].dtype == "float32"


async def test_reply_of_one_token() -> None:
    """A row that ends with its prefill is followed too."""
    taken = Taken()
    await serve([PROMPT], taken, count=1)
    assert taken.told() == [(PROMPT, expected(PROMPT, 1))]


async def test_neighbours() -> None:
    """Each row by itself; more than a few at once are dropped."""
    taken = Taken()
    prompts = [[1, 500 + index] for index in range(8)]
    served = ArithmeticBackend(MODEL.vocabulary, WIDE)
    async with arithmetic_runtime(served, WIDE, wrappers=[Shadow(MODEL, 1.0, taken)]) as runtime:
        await asyncio.gather(*(reply(runtime, tokens_request(prompt, 6)) for prompt in prompts))
    replies = {tuple(prompt): expected(prompt, 6) for prompt in prompts}
    assert all(best == replies[tuple(prompt)] for prompt, best in taken.told())
    assert len(taken.rows) >= TOGETHER
    assert len(taken.rows) + len(taken.drops) == 8
    assert set(taken.drops) <= {"busy"}


async def test_share_of_the_prompts() -> None:
    """The same prompts of every server that runs: the draws have a seed."""
    prompts = [[1, 400 + number] for number in range(40)]
    first, second, none = Taken(), Taken(), Taken()
    await serve(prompts, first, count=2, rate=0.25)
    await serve(prompts, second, count=2, rate=0.25)
    await serve(prompts, none, count=2, rate=0)
    assert 2 < len(first.rows) < 20
    assert first.told() == second.told()
    assert not none.rows
    assert not none.drops


async def test_continued_prompts() -> None:
    """A beginning that a slot held before, and the parts of a prompt: each is followed from position 0."""
    taken, prompt = Taken(), list(range(100, 180))
    backend = ResumingBackend(MODEL.vocabulary, LONG)
    await serve([prompt] * 2, taken, backend=backend, limits=LONG, reuse_prefixes=True, prefill_chunk=50)
    assert backend.parts == [(0, 50), (50, 30), (79, 1)]
    assert [len(row.prompt.tokens) for row in taken.rows] == [50, 80, 80]
    assert taken.told()[1:] == [(prompt, expected(prompt, 4))] * 2


async def test_long_reply() -> None:
    """Its beginning; the rest would only wait in memory."""
    taken, prompt = Taken(), [1, 2]
    await serve([prompt], taken, count=100, backend=ResumingBackend(MODEL.vocabulary, LONG), limits=LONG)
    assert taken.told() == [(prompt, expected(prompt, LONGEST + 1))]


async def test_no_time() -> None:
    """Nothing is copied for rows that nobody would take."""
    taken = Taken()
    taken.is_busy = True
    await serve([PROMPT], taken)
    assert (taken.rows, taken.drops) == ([], ["busy"])


class Asynchronous(ArithmeticBackend):
    """Says that its steps are under way when they return."""

    @hookimpl
    def capacity(self) -> Capacity:
        return Capacity(self.limits.rows, self.limits.context, asynchronous=True)


async def test_asynchronous_device() -> None:
    """The last logits of a row are read with the next step, so that nobody waits for them."""
    taken = Taken()
    await serve([PROMPT, [1, 7]], taken, backend=Asynchronous(MODEL.vocabulary, LIMITS))
    assert (PROMPT, expected(PROMPT, 4)) in taken.told()


async def test_step_that_fails() -> None:
    """Its rows are dropped; the next one is followed as ever."""
    taken = Taken()
    async with arithmetic_runtime(wrappers=[Shadow(MODEL, 1.0, taken)]) as runtime:
        for prompt in ([1, FAILS], [1, FAILS_LATER]):
            with pytest.raises(BackendError):
                await reply(runtime, tokens_request(prompt, 4))
        await reply(runtime, tokens_request(PROMPT, 4))
    assert taken.told() == [(PROMPT, expected(PROMPT, 4))]
    assert taken.drops == ["failed"]


class Broken(Taken):
    """Cannot take a row."""

    def put(self, row: Followed) -> None:
        raise RuntimeError(row)


async def test_failure_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    """It ends, once and with a line in the log; requests do not notice."""
    await serve([PROMPT] * 3, Broken())
    assert [record.message for record in caplog.records] == ["the shadow failed and follows no more rows"]
