"""Flags that decide how much of a prompt is computed, and at once, on a backend that can resume."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from runtime.backend import Limits, ModelSpec
from runtime.serve.assembly import build_runtime, model_of
from support import arithmetic
from support.arithmetic import expected
from support.command_line import settings_of
from support.resuming import ResumingBackend
from support.serving import ids, reply, tokens_request

pytestmark = pytest.mark.anyio

PROMPT = list(range(100, 180))
Parts = list[tuple[int, int]]


@pytest.fixture
def parts_of(arithmetic_plugin: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Awaitable[Parts]]:
    """Serve the demo model with these flags, ask the same twice, and tell (offset, tokens) of what was computed."""
    loaded: list[ResumingBackend] = []

    def load(model: ModelSpec, limits: Limits) -> ResumingBackend:
        loaded.append(ResumingBackend(model.vocabulary, limits))
        return loaded[-1]

    monkeypatch.syspath_prepend(str(arithmetic_plugin))
    monkeypatch.setattr(arithmetic, "SPEC", replace(arithmetic.SPEC, load=load))

    async def parts_of(*flags: str) -> Parts:
        settings = settings_of("--model-id", "demo", "--backend", "arithmetic", *flags)
        runtime = build_runtime(settings, model_of(settings))
        try:
            await asyncio.wrap_future(runtime.engine.loaded)
            for _ in range(2):
                assert ids(await reply(runtime, tokens_request(PROMPT, 3))) == expected(PROMPT, 3)
        finally:
            await runtime.aclose()
        return loaded[-1].parts

    return parts_of


@pytest.mark.proves("--prefix-reuse")
async def test_prefix_reuse(parts_of: Callable[..., Awaitable[Parts]]) -> None:
    """By default a prompt that was there before costs a token; it can be switched off."""
    assert await parts_of() == [(0, 80), (79, 1)]
    assert await parts_of("--no-prefix-reuse") == [(0, 80), (0, 80)]


@pytest.mark.proves("--prefill-chunk")
async def test_prefill_chunk(parts_of: Callable[..., Awaitable[Parts]]) -> None:
    """At most so many tokens at once; by default all."""
    assert await parts_of("--prefill-chunk", "30", "--no-prefix-reuse") == [(0, 30), (30, 30), (60, 20)] * 2
    assert await parts_of("--prefill-chunk", "30") == [(0, 30), (30, 30), (60, 20), (79, 1)]
