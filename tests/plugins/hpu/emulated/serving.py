"""On the virtual device: a step costs one read, and after the warm-up nothing is new; until the device is lost."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from runtime import hookimpl
from runtime.backend import Limits, ModelSpec
from runtime.errors import DeviceLost
from runtime.geometry import feature_count
from runtime.local import LocalRuntime
from runtime.model import read_model
from runtime.plugins import Hooks
from runtime.runtime import GenerateRequest, SamplingParameters, StoppingParameters, TokensPart
from runtime.static.warmup import empty_decode
from support.agreement import Agreement, Prompt
from support.arithmetic import EOS
from support.checkpoints import Checkpoint, write_checkpoint
from support.hpu import FLASH, MODES, QUIET, loaded, plan_of
from support.serving import TOKENIZER, TokenPrompt, info, reply
from support.static import ignore
from virtual_device import counters, faults

pytestmark = QUIET

REQUESTS = int(os.environ.get("HPU_REQUESTS", "100"))
LIMITS = Limits(rows=4, context=256, prefill_rows=2, prefill_tokens=240)
SMALLEST = Checkpoint(layers=1, hidden=32, heads=2, kv_heads=1, vision_hidden=16, vision_layers=2, dtype="float32")


class Watch:
    """Looks at the counters around every step."""

    def __init__(self) -> None:
        self.steps = 0

    @hookimpl(wrapper=True)
    def prefill(self) -> Generator[None, Any, Any]:
        return (yield from self._step())

    @hookimpl(wrapper=True)
    def decode(self) -> Generator[None, Any, Any]:
        return (yield from self._step())

    def _step(self) -> Generator[None, Any, Any]:
        self.steps += 1
        before = counters.snapshot()
        answer = yield
        assert (counters.snapshot() - before).host_reads == 1
        return answer


def sampling(chance: random.Random) -> SamplingParameters:
    """Greedy half the time, else with whatever filters and penalties."""
    if chance.random() < 0.5:
        return SamplingParameters()
    return SamplingParameters(
        do_sample=True,
        temperature=chance.uniform(0.5, 2),
        top_k=chance.choice((0, 5, 100)),
        top_p=chance.choice((1.0, 0.9)),
        repetition_penalty=chance.choice((1.0, 1.2)),
        seed=chance.randrange(100),
    )


def prepared(model: ModelSpec, prompts: list[Prompt], request: GenerateRequest) -> TokenPrompt:
    """The prompt whose number is the request's only token."""
    (part,) = request.parts
    assert isinstance(part, TokensPart)
    prompt = prompts[part.ids[0]]
    sizes = [] if prompt.images is None else prompt.images.sizes
    assert model.images is not None
    ends = [start + feature_count(size, model.images) for start, size in zip(prompt.starts, sizes, strict=True)]
    places = tuple(slice(start, end) for start, end in zip(prompt.starts, ends, strict=True))
    return TokenPrompt(prompt.tokens, prompt.images, places=places)


@asynccontextmanager
async def serving(model: ModelSpec, mode: str, watch: Watch, prompts: list[Prompt]) -> AsyncIterator[LocalRuntime]:
    """The whole worker but for its gRPC, warmed up."""
    runtime = LocalRuntime(
        load=lambda: Hooks("hpu", loaded(model, LIMITS, hpu_mode=mode, **FLASH), model, LIMITS, [watch]),
        prepare=lambda request: prepared(model, prompts, request),
        vocabulary=TOKENIZER,
        eos_ids=frozenset({EOS}),
        info=info(LIMITS, 64),
        max_stop_sequences=4,
        lease_idle_seconds=300.0,
        plan=lambda limits, budgets, resumes: plan_of(model, LIMITS),
        reuse_prefixes=True,
        prefill_chunk=100,
    )
    try:
        await asyncio.wrap_future(runtime.engine.loaded)
        yield runtime
    finally:
        await runtime.aclose()


@pytest.mark.anyio
@pytest.mark.parametrize("mode", MODES)
async def test_mixed_requests_meet_nothing_new(mode: str, tmp_path: Path) -> None:
    """Texts, one and two pictures of any size, sampled in any way, eight at a time."""
    model = read_model(write_checkpoint(tmp_path, SMALLEST))
    watch, chance = Watch(), random.Random(0)
    traffic = Agreement(model, LIMITS, None, None, seed=0)
    prompts = [traffic.prompt() for _ in range(REQUESTS)]
    queue = iter(range(REQUESTS))

    async def client(runtime: LocalRuntime) -> None:
        for number in queue:
            parts, stopping = (TokensPart((number,)),), StoppingParameters(max_new_tokens=chance.randint(1, 10))
            await reply(runtime, GenerateRequest(parts, sampling=sampling(chance), stopping=stopping))

    async with serving(model, mode, watch, prompts) as runtime:
        before, watch.steps = counters.snapshot(), 0
        await asyncio.gather(*(client(runtime) for _ in range(8)))
        spent = counters.snapshot() - before
        stats = runtime.engine.prepared.hooks.stats()
    assert spent.captures.total() == spent.compilations == spent.cpu_fallbacks.total() == spent.bypasses.total() == 0
    assert spent.host_reads == watch.steps > REQUESTS
    assert len({site for kind, site in spent.d2h_syncs}) == 1
    assert spent.stale_reads.total() == 0
    assert (spent.replays.total() > watch.steps) == (mode == "lazy")
    assert stats["unknown_shapes"] == 0


def test_a_fatal_error_loses_the_device(tmp_path: Path) -> None:
    """Whatever is asked of it then, and whoever asks: the last test of this process."""
    model = read_model(write_checkpoint(tmp_path, SMALLEST))
    plan = plan_of(model, LIMITS)
    backend = loaded(model, LIMITS, hpu_mode=MODES[-1])
    backend.warmup(plan, ignore)
    faults.strike("fatal")
    for _ in range(2):
        with pytest.raises(DeviceLost, match="the device failed, and the worker is started anew"):
            backend.decode(empty_decode(plan.decode[0]))
