"""`--deterministic`: a reply is the same to the last bit alone and among others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from runtime.backend import DecodeBatch, DecodeOutput, Limits, ModelSpec, PrefillBatch, PrefillOutput
from runtime.hookspecs import hookimpl
from runtime.local import LocalRuntime
from runtime.model import FoundModel
from runtime.runtime import Token
from runtime.serve.assembly import build_runtime
from support import arithmetic, planned
from support.arithmetic import ArithmeticBackend
from support.command_line import settings_of
from support.planned import PlannedBackend
from support.plugin import install_plugin
from support.serving import MODEL, reply, tokens_request

pytestmark = pytest.mark.anyio

PROMPT = list(range(100, 150))
OTHERS = [list(range(200 + 9 * number, 230 + 16 * number)) for number in range(7)]
"""Shorter prompts and longer ones."""
TOKENS = 12
Flagged = Callable[..., list[str]]


class Crowded(ArithmeticBackend):
    """Computes active rows only, and rounds by how many they are and by the longest of them."""

    @hookimpl
    def prefill(self, batch: PrefillBatch) -> PrefillOutput:
        output = super().prefill(batch)
        return replace(output, logits=output.logits.roll(len(batch.tokens) + int(batch.lengths.max()), 1))

    @hookimpl
    def decode(self, batch: DecodeBatch) -> DecodeOutput:
        output = super().decode(batch)
        return DecodeOutput(output.logits.roll(int(batch.active.sum()) + int(batch.positions.max()), 1))


class Shaped(PlannedBackend):
    """Computes what a shape has, and rounds by the shape."""

    @hookimpl
    def prefill(self, batch: PrefillBatch) -> PrefillOutput:
        output = super().prefill(batch)
        return replace(output, logits=output.logits.roll(batch.shape.rows + batch.shape.length, 1))

    @hookimpl
    def decode(self, batch: DecodeBatch) -> DecodeOutput:
        output = super().decode(batch)
        return DecodeOutput(output.logits.roll(batch.shape.rows + batch.shape.context, 1))


@pytest.fixture(params=["any shape", "planned", "cpu"])
def flags(
    request: pytest.FixtureRequest, arithmetic_plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """Choose a backend whose numbers depend on the batch: two that exaggerate, and a real one in bfloat16."""

    def crowded(model: ModelSpec, limits: Limits) -> Crowded:
        return Crowded(model.vocabulary, limits)

    monkeypatch.syspath_prepend(str(arithmetic_plugin))
    monkeypatch.syspath_prepend(install_plugin(tmp_path / "plugins", "planned", "support.planned"))
    monkeypatch.setattr(arithmetic, "SPEC", replace(arithmetic.SPEC, load=crowded))
    monkeypatch.setattr(planned, "load", Shaped)
    sizes = ["--max-total-tokens", "1024", "--max-batch-size", "8", "--ignore-eos", "--no-warmup-enabled"]
    backend = {
        "any shape": ["--backend", "arithmetic"],
        "planned": ["--backend", "planned", "--batch-bucket-size", "2", "--bucket-strategy", "exponential"],
        "cpu": ["--backend", "cpu", "--dtype", "bfloat16", "--threads", "1"],
    }
    return ["--model-id", "demo", *sizes, *backend[request.param]]


async def alone_and_among_others(*flags: str) -> tuple[Sequence[Token], Sequence[Token]]:
    """The same request twice: by itself, and while seven others decode."""
    runtime = build_runtime(settings_of(*flags), FoundModel(MODEL, None))
    try:
        await asyncio.wrap_future(runtime.engine.loaded)
        alone = (await reply(runtime, tokens_request(PROMPT, TOKENS, seed=7, temperature=2.0))).tokens
        async with asyncio.timeout(120):
            return alone, await _among_others(runtime)
    finally:
        await runtime.aclose()


async def _among_others(runtime: LocalRuntime) -> Sequence[Token]:
    others = [runtime.generate(tokens_request(prompt, 800)) for prompt in OTHERS]
    try:
        for other in others:
            await anext(other)
        return (await reply(runtime, tokens_request(PROMPT, TOKENS, seed=7, temperature=2.0))).tokens
    finally:
        for other in others:
            await other.aclose()


@pytest.mark.proves("--deterministic")
async def test_neighbours_change_nothing(flags: list[str]) -> None:
    """Neither a token nor a bit of its log-probability; without the flag they do."""
    alone, among = await alone_and_among_others(*flags, "--deterministic")
    assert alone == among
    alone, among = await alone_and_among_others(*flags)
    assert alone != among


@pytest.mark.parametrize("backend", ["arithmetic", "cpu"])
async def test_reuse_and_parts_are_off(backend: str, arithmetic_plugin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a slot held before is a matter of chance; and the server tells that it is deterministic."""
    monkeypatch.syspath_prepend(str(arithmetic_plugin))
    arguments = ["--model-id", "demo", "--backend", backend, "--prefill-chunk", "16", "--deterministic"]
    runtime = build_runtime(settings_of(*arguments), FoundModel(MODEL, None))
    try:
        await asyncio.wrap_future(runtime.engine.loaded)
        for _ in range(2):
            completion = (await reply(runtime, tokens_request(PROMPT, 3))).completion
            assert completion is not None
            assert completion.cost.cached_tokens == 0
            assert completion.cost.bucket == len(PROMPT)
        assert (await runtime.info()).details["deterministic"] == "true"
    finally:
        await runtime.aclose()
