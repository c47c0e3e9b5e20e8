"""Mixed requests through a whole worker but for its gRPC: texts and pictures, sampled in any way, eight at a time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from runtime.backend import Backend, Limits, ModelSpec, ShapePlan
from runtime.geometry import feature_count
from runtime.local import LocalRuntime
from runtime.plugins import Hooks
from runtime.runtime import GenerateRequest, SamplingParameters, StoppingParameters, TokensPart
from support.agreement import Agreement, Prompt
from support.arithmetic import EOS
from support.serving import TOKENIZER, TokenPrompt, info, reply

CLIENTS = 8


async def serve_mixed(
    load: Callable[[], Backend], model: ModelSpec, limits: Limits, plan: ShapePlan, requests: int
) -> tuple[Mapping[str, float], Mapping[str, float]]:
    """Send so many requests; what the backend counted before the first and after the last."""
    prompts = some_prompts(model, limits, requests)
    async with serving(lambda: Hooks("cuda", load(), model, limits), model, limits, plan, prompts) as runtime:
        before = runtime.engine.prepared.hooks.stats()
        await ask_all(runtime, requests)
        return before, runtime.engine.prepared.hooks.stats()


def some_prompts(model: ModelSpec, limits: Limits, count: int) -> list[Prompt]:
    """Texts, one and two pictures of any size; the same each time."""
    traffic = Agreement(model, limits, None, None, seed=0)
    return [traffic.prompt() for _ in range(count)]


@asynccontextmanager
async def serving(
    load: Callable[[], Hooks], model: ModelSpec, limits: Limits, plan: ShapePlan, prompts: list[Prompt]
) -> AsyncIterator[LocalRuntime]:
    """The whole worker but for its gRPC, warmed up; a request names its prompt by its number."""
    runtime = LocalRuntime(
        load=load,
        prepare=lambda request: prepared(model, prompts, request),
        vocabulary=TOKENIZER,
        eos_ids=frozenset({EOS}),
        info=info(limits, 64),
        max_stop_sequences=4,
        lease_idle_seconds=300.0,
        plan=lambda limits, budgets, resumes: plan,
        reuse_prefixes=True,
        prefill_chunk=100,
    )
    try:
        await asyncio.wrap_future(runtime.engine.loaded)
        yield runtime
    finally:
        await runtime.aclose()


async def ask_all(runtime: LocalRuntime, requests: int) -> None:
    """Ask for a short reply to each prompt, sampled in any way, so many at a time."""
    queue, chance = iter(range(requests)), random.Random(0)

    async def client() -> None:
        for number in queue:
            parts, stopping = (TokensPart((number,)),), StoppingParameters(max_new_tokens=chance.randint(1, 10))
            await reply(runtime, GenerateRequest(parts, sampling=sampling(chance), stopping=stopping))

    await asyncio.gather(*(client() for _ in range(CLIENTS)))


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
