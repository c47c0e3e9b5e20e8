"""A `LocalRuntime` on the arithmetic backend, inside the test's own process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from runtime import demo
from runtime.backend import CONTRACT_VERSION, Images, Limits
from runtime.budgets import Budgets
from runtime.local import LocalRuntime
from runtime.model import read_model
from runtime.plugins import Hooks
from runtime.prompt.tokenizer import Tokenizer
from runtime.runtime import (
    Delta,
    GenerateRequest,
    Info,
    SamplingParameters,
    StoppingParameters,
    TextPart,
    TokensPart,
)
from runtime.sampling.grammar import GrammarCompiler
from runtime.telemetry.pictures import PictureCost
from support.arithmetic import EOS, ArithmeticBackend

MODEL = read_model(demo.MODEL)
TOKENIZER = Tokenizer.load(demo.MODEL, MODEL.image_token_id)
LIMITS = Limits(rows=4, context=64, prefill_rows=2, prefill_tokens=48)


@dataclass(frozen=True)
class TokenPrompt:
    """A prompt that is token ids already."""

    tokens: tuple[int, ...]
    images: Images | None = None
    pictures: tuple[PictureCost, ...] = ()
    places: tuple[slice, ...] = ()


def prepare(request: GenerateRequest) -> TokenPrompt:
    """Take the ids of the only part, or the only part of the last message; encode it when it is text."""
    (part,) = request.parts or request.messages[-1].parts
    if isinstance(part, TextPart):
        return TokenPrompt(tuple(TOKENIZER.encode(part.text, add_special_tokens=request.add_special_tokens)))
    assert isinstance(part, TokensPart)
    return TokenPrompt(part.ids)


def info(limits: Limits = LIMITS, max_concurrent_requests: int = 16) -> Info:
    """Facts about the arithmetic backend."""
    return Info(
        model_id="demo",
        model_digest=MODEL.digest,
        architecture=MODEL.architecture,
        dtype=MODEL.dtype,
        backend="arithmetic",
        backend_version="1.0",
        contract=CONTRACT_VERSION,
        device="cpu",
        version="0",
        max_input_tokens=limits.prefill_tokens,
        max_total_tokens=limits.context,
        max_batch_size=limits.rows,
        max_concurrent_requests=max_concurrent_requests,
        max_batch_prefill_tokens=limits.prefill_rows * limits.prefill_tokens,
        max_batch_total_tokens=limits.rows * limits.context,
        waiting_served_ratio=0.3,
        max_waiting_tokens=20,
        validation_workers=2,
        vision=True,
    )


def tokens_request(ids: Sequence[int], count: int | None = 8, **sampling: Any) -> GenerateRequest:
    """Ask for `count` tokens after the given ids; greedy unless sampling parameters are given."""
    return GenerateRequest(
        parts=(TokensPart(tuple(ids)),),
        sampling=SamplingParameters(**sampling),
        stopping=StoppingParameters(max_new_tokens=count),
    )


@asynccontextmanager
async def arithmetic_runtime(
    backend: ArithmeticBackend | None = None,
    limits: Limits = LIMITS,
    max_concurrent_requests: int = 16,
    lease_idle_seconds: float = 300.0,
    prepare: Callable[[GenerateRequest], TokenPrompt] = prepare,
    budgets: Budgets | None = None,
    grammars: GrammarCompiler | None = None,
    wrappers: Sequence[object] = (),
    **engine: Any,
) -> AsyncIterator[LocalRuntime]:
    """Serve an arithmetic backend; closes it at the end. `engine`: what `LocalRuntime` hands to the engine as it is."""
    served = backend or ArithmeticBackend(MODEL.vocabulary, limits)
    runtime = LocalRuntime(
        load=lambda: Hooks("arithmetic", served, MODEL, limits, wrappers),
        prepare=prepare,
        vocabulary=TOKENIZER,
        eos_ids=frozenset({EOS}),
        info=info(limits, max_concurrent_requests),
        max_stop_sequences=4,
        lease_idle_seconds=lease_idle_seconds,
        budgets=budgets,
        grammars=grammars,
        **engine,
    )
    try:
        await asyncio.wrap_future(runtime.engine.loaded)
        yield runtime
    finally:
        await runtime.aclose()


async def reply(runtime: Any, request: GenerateRequest) -> Delta:
    """Collect a whole reply into one delta."""
    deltas = [delta async for delta in runtime.generate(request)]
    return Delta(tuple(token for delta in deltas for token in delta.tokens), deltas[-1].completion)


def ids(delta: Delta) -> list[int]:
    """The token ids of a delta."""
    return [token.id for token in delta.tokens]
