"""Prompts computed in parts, through `LocalRuntime`, on an arithmetic backend that can go on with what a slot holds."""

from __future__ import annotations

import asyncio
import threading
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runtime.backend import PrefillBatch, PrefillOutput
from runtime.errors import BackendError
from runtime.hookspecs import hookimpl
from runtime.local import LocalRuntime
from support.arithmetic import FAILS, ArithmeticBackend, expected
from support.gated import GatedBackend
from support.resuming import LIMITS, Preparation, ResumingBackend, Shown, cells_of, placeholders, prompt_of
from support.scrape import read_scrape
from support.serving import MODEL, arithmetic_runtime, ids, reply, tokens_request

PROMPT = list(range(100, 180))
PICTURE, TWIN = 1001, 1002
SHOWN = {PICTURE: Shown((30, 150), b"a" * 32), TWIN: Shown((150, 30), b"b" * 32)}


def chunked(backend: ArithmeticBackend, chunk: int | None, **more: Any) -> AbstractAsyncContextManager[LocalRuntime]:
    """Serve with at most so many tokens of a prompt at once."""
    return arithmetic_runtime(backend, LIMITS, prepare=Preparation(SHOWN), prefill_chunk=chunk, **more)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("prompt", "chunk", "parts"),
    [
        (PROMPT, 32, [(0, 32), (32, 32), (64, 16)]),
        (PROMPT, 40, [(0, 40), (40, 40)]),
        (PROMPT, 80, [(0, 80)]),
        (PROMPT, None, [(0, 80)]),
        ([*PROMPT[:10], PICTURE, *PROMPT[:5]], 20, [(0, 10), (10, 28), (38, 5)]),
    ],
)
async def test_parts_of_a_prompt(prompt: list[int], chunk: int | None, parts: list[tuple[int, int]]) -> None:
    """As long as allowed, never within a picture; the reply is that of the whole."""
    backend, tokens = ResumingBackend(), prompt_of(prompt, SHOWN).tokens
    async with chunked(backend, chunk) as runtime:
        assert ids(await reply(runtime, tokens_request(prompt, 4))) == expected(tokens, 4)
    assert backend.parts == parts


@pytest.mark.anyio
async def test_parts_take_turns_with_running_replies() -> None:
    """A running reply gets a token between any two parts of a newcomer's prompt."""

    class Gated(GatedBackend, ResumingBackend):
        """Waits before each decode."""

    backend = Gated(LIMITS)
    async with chunked(backend, 20) as runtime:
        running = asyncio.ensure_future(reply(runtime, tokens_request([1, 500], 12)))
        await backend.started()
        newcomer = asyncio.ensure_future(reply(runtime, tokens_request(PROMPT, 2)))
        while runtime.engine._inbox.empty():  # noqa: ASYNC110
            await asyncio.sleep(0)
        backend.gate.release(100)
        assert ids(await running) == expected([1, 500], 12)
        assert ids(await newcomer) == expected(PROMPT, 2)
    hooks = [hook for hook, _ in backend.calls]
    assert hooks[:9] == ["prefill", "decode", *["prefill", "decode"] * 3, "prefill"]
    assert backend.parts[1:] == [(0, 20), (20, 20), (40, 20), (60, 20)]


@pytest.mark.anyio
async def test_cancelled_between_its_parts() -> None:
    """Its row is free at the next step boundary, and the part that was computed can be reused."""

    class GatedPrefill(ResumingBackend):
        """Waits in the second prefill."""

        entered, gate = threading.Event(), threading.Event()

        @hookimpl
        def prefill(self, batch: PrefillBatch) -> PrefillOutput:
            if self.parts:
                self.entered.set()
                assert self.gate.wait(30)
            return super().prefill(batch)

    backend = GatedPrefill(limits=(one_row := replace(LIMITS, rows=1, prefill_rows=1)))
    async with arithmetic_runtime(backend, one_row, prefill_chunk=32, reuse_prefixes=True) as runtime:
        hanging_up = asyncio.ensure_future(reply(runtime, tokens_request(PROMPT, 60)))
        assert await asyncio.to_thread(backend.entered.wait, 30)
        hanging_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hanging_up
        backend.gate.set()
        assert ids(await reply(runtime, tokens_request(PROMPT, 3))) == expected(PROMPT, 3)
    assert backend.parts == [(0, 32), (32, 32), (64, 16)]


@pytest.mark.anyio
async def test_part_that_fails() -> None:
    """Its request gets the error, its row is free, and nothing of it is reused."""
    backend = ResumingBackend()
    async with chunked(backend, 32, reuse_prefixes=True) as runtime:
        with pytest.raises(BackendError, match="failed in prefill"):
            await reply(runtime, tokens_request([*PROMPT, FAILS], 3))
        assert ids(await reply(runtime, tokens_request(PROMPT, 3))) == expected(PROMPT, 3)
        await asyncio.wrap_future(runtime.engine.call(lambda _hooks, _leases: None))  # the step is over then
        scrape = read_scrape(await runtime.metrics())
    assert backend.parts == [(0, 32), (32, 32), (64, 17), (0, 32), (32, 32), (64, 16)]
    assert scrape["runtime_rows_used"].values == {"": 0}


@pytest.mark.anyio
async def test_log_probabilities_of_the_prompt_are_told_at_once() -> None:
    """Such a prompt is computed whole, and the one beside it in parts."""
    backend = ResumingBackend()
    wanted = replace(tokens_request(PROMPT, 1), prompt_logprobs=True)
    async with chunked(backend, 32) as runtime:
        other, told = await asyncio.gather(
            reply(runtime, tokens_request(PROMPT, 3)), anext(aiter(runtime.generate(wanted)))
        )
    assert sorted(backend.parts) == [(0, 32), (0, 80), (32, 32), (64, 16)]
    assert ids(other) == expected(PROMPT, 3)
    assert len(told.prefill) == 80


@pytest.mark.anyio
async def test_backend_that_cannot_resume() -> None:
    """It gets whole prompts."""
    async with chunked(ArithmeticBackend(MODEL.vocabulary, LIMITS), 32) as runtime:
        assert ids(await reply(runtime, tokens_request(PROMPT, 3))) == expected(PROMPT, 3)


@dataclass(frozen=True)
class Request:
    """One client: it asks after the others before it have, and may hang up after some tokens."""

    prompt: tuple[int, ...]
    count: int
    hangs_up_after: int | None


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """Prompts that often begin alike, with pictures that differ in nothing but their digest."""
    start = draw(st.sampled_from([(1,), (1, *range(100, 160)), (1, *range(100, 140))]))
    middle = draw(st.lists(st.sampled_from([(PICTURE, 7), (TWIN, 7), (7,)]), max_size=3))
    end = draw(st.sampled_from([(400,), (401,), (PICTURE,)]))
    prompt = (*start, *(id for ids in middle for id in ids), *end)
    return Request(prompt, draw(st.integers(1, 6)), draw(st.sampled_from([None, None, None, 0, 2])))


async def served(traffic: list[Request], together: int, chunk: int | None, reuse: bool) -> ResumingBackend:
    """Serve the traffic, so many clients at a time; every reply must be that of its whole prompt, computed alone."""
    backend, clients = ResumingBackend(), asyncio.Semaphore(together)

    async def ask(request: Request) -> None:
        async with clients:
            got: list[int] = []
            stream = runtime.generate(tokens_request(request.prompt, request.count))
            if request.hangs_up_after == 0:
                waiting = asyncio.ensure_future(anext(stream))
                await asyncio.sleep(0)
                waiting.cancel()
                await asyncio.wait([waiting])
                return
            async for delta in stream:
                got += ids(delta)
                if request.hangs_up_after is not None and len(got) >= request.hangs_up_after:
                    break
            await stream.aclose()
            wanted = expected(prompt_of(request.prompt, SHOWN).tokens, request.count)
            assert got == (wanted if request.hangs_up_after is None else wanted[: len(got)])

    async with chunked(backend, chunk, reuse_prefixes=reuse, max_concurrent_requests=100) as runtime:
        await asyncio.gather(*(ask(request) for request in traffic))
    return backend


@settings(max_examples=150)
@given(
    st.lists(requests(), min_size=1, max_size=12),
    st.integers(1, 5),
    st.sampled_from([None, 8, 25, 60]),
    st.booleans(),
)
def test_any_traffic(traffic: list[Request], together: int, chunk: int | None, reuse: bool) -> None:
    """Replies are those without parts and reuse, and no slot ever holds anything but the beginning of a prompt."""
    backend = asyncio.run(served(traffic, together, chunk, reuse))
    cells = [cells_of(prompt_of(request.prompt, SHOWN)) for request in traffic]
    for content in backend.contents:
        assert any(prompt[: len(content)] == content for prompt in cells)
    answered = [prompt for prompt, request in zip(cells, traffic, strict=True) if request.hangs_up_after != 0]
    assert set(answered) <= set(backend.contents)
    if not reuse and chunk is None:
        assert {offset for offset, _ in backend.parts} <= {0}
    if chunk is not None:
        longest = max(chunk, placeholders(SHOWN[PICTURE].size))
        assert all(length <= longest for _, length in backend.parts)
