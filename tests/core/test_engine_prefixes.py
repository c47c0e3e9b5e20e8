"""Prefix reuse through `LocalRuntime`, on an arithmetic backend that remembers what its slots held."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

import pytest
from runtime.backend import Capacity, DecodeBatch, DecodeOutput
from runtime.errors import BackendError
from runtime.hookspecs import hookimpl
from runtime.local import LocalRuntime
from runtime.runtime import StepRequest, StoppingParameters
from support.arithmetic import FAILS, FAILS_LATER, NOT_A_NUMBER, ArithmeticBackend, expected
from support.resuming import LIMITS, Preparation, ResumingBackend, Shown, cells_of, placeholders, prompt_of
from support.scrape import read_scrape
from support.serving import MODEL, TOKENIZER, arithmetic_runtime, ids, reply, tokens_request

pytestmark = pytest.mark.anyio

COMMON = list(range(100, 180))
LYING, STANDING = 1001, 1002
SHOWN = {LYING: Shown((30, 150), b"a" * 32), STANDING: Shown((150, 30), b"b" * 32)}
"""Pictures of as many placeholders."""
PICTURE = placeholders((30, 150))


def reusing(backend: ArithmeticBackend, **more: Any) -> AbstractAsyncContextManager[LocalRuntime]:
    """Serve with reuse, unless told otherwise."""
    given = {"reuse_prefixes": True, "prepare": Preparation(SHOWN), **more}
    return arithmetic_runtime(backend, LIMITS, **given)


async def test_second_request_computes_only_the_rest() -> None:
    """From the first token that differs; its reply is that of the whole prompt, and the metric tells what was saved."""
    backend = ResumingBackend()
    async with reusing(backend) as runtime:
        await reply(runtime, tokens_request([*COMMON, 500], 3))
        answer = await reply(runtime, tokens_request([*COMMON, 600, 700], 3))
        scrape = read_scrape(await runtime.metrics())
    assert backend.parts == [(0, 81), (80, 2)]
    assert ids(answer) == expected([*COMMON, 600, 700], 3)
    assert scrape["runtime_prefix_reused_tokens_total"].values == {"": 80}


async def test_same_request_again() -> None:
    """Its last token is computed, for its logits."""
    backend = ResumingBackend()
    async with reusing(backend) as runtime:
        answers = [await reply(runtime, tokens_request(COMMON, 3)) for _ in range(2)]
    assert backend.parts == [(0, 80), (79, 1)]
    assert [ids(answer) for answer in answers] == [expected(COMMON, 3)] * 2


async def test_conversation_goes_on_behind_the_reply() -> None:
    """The slot holds all of the reply but its last token, which was never computed."""
    backend = ResumingBackend()
    async with reusing(backend) as runtime:
        first = ids(await reply(runtime, tokens_request(COMMON, 3)))
        second = [*COMMON, *first, 500]
        assert ids(await reply(runtime, tokens_request(second, 3))) == expected(second, 3)
    assert backend.parts == [(0, 80), (82, 2)]


async def test_same_picture_new_question() -> None:
    """The picture is not computed again."""
    backend = ResumingBackend()
    async with reusing(backend) as runtime:
        for question in (500, 600):
            await reply(runtime, tokens_request([*COMMON, LYING, question], 3))
    assert backend.parts == [(0, 80 + PICTURE + 1), (80 + PICTURE, 1)]


async def test_prompt_that_ends_with_a_picture() -> None:
    """Its last token is wanted, and so the whole picture is."""
    backend = ResumingBackend()
    async with reusing(backend) as runtime:
        for _ in range(2):
            await reply(runtime, tokens_request([*COMMON, LYING], 3))
    assert backend.parts == [(0, 80 + PICTURE), (80, PICTURE)]


async def test_twins_are_told_apart() -> None:
    """A picture on its side has as many placeholders as the upright one, and so the same tokens."""
    backend = ResumingBackend()
    prompts = [[*COMMON, picture, 500] for picture in (LYING, STANDING, LYING)]
    assert prompt_of(prompts[0], SHOWN).tokens == prompt_of(prompts[1], SHOWN).tokens
    async with reusing(backend) as runtime:
        for prompt in prompts:
            await reply(runtime, tokens_request(prompt, 3))
    assert [offset for offset, _ in backend.parts] == [0, 80, 80]
    assert backend.contents == [cells_of(prompt_of(prompt, SHOWN)) for prompt in prompts]


async def test_log_probabilities_of_the_prompt_need_all_of_it() -> None:
    """Such a request reuses nothing."""
    backend = ResumingBackend()
    async with reusing(backend) as runtime:
        await reply(runtime, tokens_request([*COMMON, 500], 3))
        wanted = replace(tokens_request([*COMMON, 600], 1), prompt_logprobs=True)
        deltas = [delta async for delta in runtime.generate(wanted)]
    assert backend.parts == [(0, 81), (0, 81)]
    assert len(deltas[0].prefill) == 81


@pytest.mark.parametrize("fails", [FAILS, FAILS_LATER, NOT_A_NUMBER])
async def test_nothing_is_reused_of_a_failed_step(fails: int) -> None:
    """Whatever failed, nobody knows what it left behind."""
    backend = ResumingBackend()
    async with reusing(backend) as runtime:
        with pytest.raises(BackendError):
            await reply(runtime, tokens_request([*COMMON, fails], 3))
        answer = await reply(runtime, tokens_request([*COMMON, 500], 3))
    assert backend.parts == [(0, 81), (0, 81)]
    assert ids(answer) == expected([*COMMON, 500], 3)


async def test_step_that_fails_after_its_row_has_ended() -> None:
    """On an asynchronous device a row is in the step launched before its last text is told."""

    class Asynchronous(ResumingBackend):
        @hookimpl
        def capacity(self) -> Capacity:
            return replace(super().capacity(), asynchronous=True)

        @hookimpl
        def decode(self, batch: DecodeBatch) -> DecodeOutput:
            if self.calls[-1][0] == "decode":  # the second in a row
                self._spoil([int(batch.active.nonzero())])
                raise RuntimeError("told to fail")
            return super().decode(batch)

    backend = Asynchronous()
    ends = TOKENIZER.decode([expected(COMMON, 2)[1]], False)
    ending = replace(tokens_request(COMMON, 9), stopping=StoppingParameters(9, (ends.strip(),)))
    async with reusing(backend) as runtime:
        assert ids(await reply(runtime, ending)) == expected(COMMON, 2)
        await reply(runtime, tokens_request([*COMMON, 500], 1))
    assert backend.parts == [(0, 80), (0, 81)]


async def test_switched_off() -> None:
    """Every prompt is computed whole."""
    backend = ResumingBackend()
    async with reusing(backend, reuse_prefixes=False) as runtime:
        for _ in range(2):
            await reply(runtime, tokens_request(COMMON, 3))
    assert backend.parts == [(0, 80), (0, 80)]


async def test_backend_that_cannot_resume() -> None:
    """It never sees an offset, which this one would refuse."""
    async with reusing(ArithmeticBackend(MODEL.vocabulary, LIMITS)) as runtime:
        answers = [await reply(runtime, tokens_request(COMMON, 3)) for _ in range(2)]
    assert [ids(answer) for answer in answers] == [expected(COMMON, 3)] * 2


async def test_step_operations_compute_whole_prompts() -> None:
    """They reuse nothing and leave nothing, and what the slot held before is forgotten."""
    one_row = replace(LIMITS, rows=1, prefill_rows=1)
    backend = ResumingBackend(limits=one_row)
    async with arithmetic_runtime(backend, one_row, reuse_prefixes=True) as runtime:
        await reply(runtime, tokens_request(COMMON, 3))
        leased = await runtime.prefill([StepRequest(1, tokens_request([*COMMON, 500], 3))])
        assert leased.batch is not None
        await runtime.release(leased.batch.id)
        await reply(runtime, tokens_request([*COMMON, 600], 3))
    assert backend.parts == [(0, 80), (0, 81), (0, 81)]
