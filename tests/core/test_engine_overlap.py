"""A device that computes while the host tells the step before: the same replies, one step in flight."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runtime.backend import Capacity, DecodeBatch, DecodeOutput, Limits
from runtime.errors import BackendError
from runtime.hookspecs import hookimpl
from runtime.row import Row
from runtime.runtime import FinishReason
from support.arithmetic import FAILS_LATER, ArithmeticBackend, expected
from support.serving import LIMITS, MODEL, TOKENIZER, arithmetic_runtime, ids, reply, tokens_request

pytestmark = pytest.mark.anyio


class AsynchronousBackend(ArithmeticBackend):
    """Says that its hooks return before the device is done."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        super().__init__(MODEL.vocabulary, limits)
        self.events: list[str] = []

    @hookimpl
    def decode(self, batch: DecodeBatch) -> DecodeOutput:
        self.events.append("launch")
        return super().decode(batch)

    @hookimpl
    def capacity(self) -> Capacity:
        return Capacity(self.limits.rows, self.limits.context, asynchronous=True)


async def test_a_step_is_told_while_the_next_one_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first token at once, for nothing else computes; then each after the launch of the next; the last at once."""
    backend = AsynchronousBackend()
    tell = Row.tell

    def noted(row: Row, *arguments: object) -> object:
        backend.events.append(f"tell {len(row.generated)}")
        return tell(row, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Row, "tell", noted)
    async with arithmetic_runtime(backend) as runtime:
        assert ids(await reply(runtime, tokens_request([1, 500], 4))) == expected([1, 500], 4)
    assert backend.events == ["tell 1", "launch", "launch", "tell 2", "launch", "tell 3", "tell 4"]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.lists(st.integers(3, 389), min_size=1, max_size=6), st.integers(1, 9)), max_size=12))
def test_replies_are_those_of_a_synchronous_device(requests: list[tuple[list[int], int]]) -> None:
    """Whatever runs together and whenever each ends."""

    async def run() -> list[list[int]]:
        async with arithmetic_runtime(AsynchronousBackend()) as runtime:
            answers = await asyncio.gather(*(reply(runtime, tokens_request(p, count)) for p, count in requests))
        return [ids(answer) for answer in answers]

    assert asyncio.run(run()) == [expected(prompt, count) for prompt, count in requests]


async def test_a_row_that_its_text_ends_leaves_no_trace() -> None:
    """The step launched meanwhile computed one token too many: it is dropped, and the slot serves the next request."""
    limits = Limits(rows=1, context=64, prefill_rows=1, prefill_tokens=48)
    wanted = expected([1, 500], 8)
    stop = TOKENIZER.decode(wanted[:4], False)[-2:]
    async with arithmetic_runtime(AsynchronousBackend(limits), limits) as runtime:
        request = tokens_request([1, 500], 8)
        answer = await reply(runtime, replace(request, stopping=replace(request.stopping, stop=(stop,))))
        assert answer.completion is not None
        assert answer.completion.finish_reason is FinishReason.STOP_SEQUENCE
        assert answer.completion.generated_tokens == len(answer.tokens) < 8
        assert ids(answer) == wanted[: len(answer.tokens)]
        assert ids(await reply(runtime, tokens_request([1, 700], 5))) == expected([1, 700], 5)


async def test_a_failing_step_does_not_lose_the_one_before() -> None:
    """Its tokens were chosen already."""
    async with arithmetic_runtime(AsynchronousBackend()) as runtime:
        with pytest.raises(BackendError):
            await reply(runtime, tokens_request([1, FAILS_LATER], 5))
        assert ids(await reply(runtime, tokens_request([1, 700], 5))) == expected([1, 700], 5)


async def test_hang_up_between_choosing_and_telling() -> None:
    """Nobody hears of the token, and the neighbours go on."""
    async with arithmetic_runtime(AsynchronousBackend()) as runtime:
        neighbour = asyncio.ensure_future(reply(runtime, tokens_request([1, 700], 40)))
        async with aclosing(runtime.generate(tokens_request([1, 500], 60))) as stream:
            await anext(stream)
            await anext(stream)
        assert ids(await neighbour) == expected([1, 700], 40)


async def test_seeds_give_the_same_text() -> None:
    """On an asynchronous device as on another."""

    async def drawn(backend: ArithmeticBackend) -> Sequence[int]:
        request = tokens_request([1, 500], 12, do_sample=True, temperature=5.0, seed=7)
        async with arithmetic_runtime(backend) as runtime:
            return ids(await reply(runtime, request))

    assert await drawn(AsynchronousBackend()) == await drawn(ArithmeticBackend(MODEL.vocabulary, LIMITS))
