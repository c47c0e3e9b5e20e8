"""What a prompt costs, from the engine's choice of shapes to the completion."""

from __future__ import annotations

import pytest
import torch
from runtime.backend import DecodeShape, Images, Limits, PrefillShape, ShapePlan
from runtime.budgets import Budgets
from runtime.cost import ImageCost, PromptCost
from runtime.runtime import Delta, StepRequest
from support.arithmetic import expected
from support.resuming import ResumingBackend
from support.serving import LIMITS, TokenPrompt, arithmetic_runtime, ids, reply, tokens_request

pytestmark = pytest.mark.anyio

LENGTHS = (16, 32, 48)
PLAN = ShapePlan(
    prefill=(
        *(PrefillShape(rows, length) for rows in (1, 2) for length in LENGTHS),
        *(PrefillShape(1, length, cached) for length in LENGTHS for cached in LENGTHS),
    ),
    decode=(DecodeShape(LIMITS.rows, LIMITS.context),),
)
PROMPT = (1, *[500] * 39)
IMAGES = Images(torch.zeros(8, 3, 56, 56), counts=(5, 3), sizes=((9, 9), (8, 8)), digests=(b"a" * 32, b"b" * 32))
PLACES = (slice(1, 13), slice(14, 34))


def planned(_limits: Limits, _budgets: Budgets, _resumes: bool) -> ShapePlan:
    return PLAN


def cost_of(delta: Delta) -> PromptCost:
    assert delta.completion is not None
    return delta.completion.cost


def test_images_and_padding() -> None:
    """34 tokens, of which 10 were there: 24 are computed as 32."""
    cost = PromptCost.of(34, IMAGES, PLACES, bucket=32, cached_tokens=10)
    assert cost == PromptCost((ImageCost(5, 12), ImageCost(3, 20)), cached_tokens=10, bucket=32, padding=8)
    assert (cost.image_tiles, cost.image_tokens) == (8, 32)


async def test_any_shape_pads_nothing() -> None:
    """A prompt counts as it is, and with a longer neighbour too."""
    steps = [StepRequest(1, tokens_request(PROMPT, 1)), StepRequest(2, tokens_request([1, 500, 600], 1))]
    async with arithmetic_runtime() as runtime:
        alone = cost_of(await reply(runtime, tokens_request([1, 500, 600], 2)))
        told = (await runtime.tokenize(tokens_request([1, 500, 600]))).cost
        together = [cost_of(delta) for _, delta in (await runtime.prefill(steps)).deltas]
    assert alone == told == PromptCost(bucket=3, padding=0)
    assert together == [PromptCost(bucket=40, padding=0), PromptCost(bucket=3, padding=0)]


async def test_bucket_of_a_plan() -> None:
    """The least planned length that holds the prompt; beside a longer neighbour, the neighbour's."""
    steps = [StepRequest(1, tokens_request(PROMPT, 1)), StepRequest(2, tokens_request([1, 500, 600], 1))]
    async with arithmetic_runtime(plan=planned) as runtime:
        alone = cost_of(await reply(runtime, tokens_request([1, 500, 600], 2)))
        told = (await runtime.tokenize(tokens_request([1, 500, 600]))).cost
        together = [cost_of(delta) for _, delta in (await runtime.prefill(steps)).deltas]
        too_long = (await runtime.tokenize(tokens_request([1] * 49))).cost
    assert alone == told == PromptCost(bucket=16, padding=13)
    assert together == [PromptCost(bucket=48, padding=8), PromptCost(bucket=48, padding=45)]
    assert too_long == PromptCost()


async def test_parts_of_a_prompt_add_up() -> None:
    """40 tokens in parts of at most 15 are 15, 15 and 10, each computed as 16."""
    async with arithmetic_runtime(
        ResumingBackend(limits=LIMITS), plan=planned, prefill_chunk=15, reuse_prefixes=False
    ) as runtime:
        answer = await reply(runtime, tokens_request(PROMPT, 3))
        told = (await runtime.tokenize(tokens_request(PROMPT))).cost
    assert ids(answer) == expected(PROMPT, 3)
    assert cost_of(answer) == told == PromptCost(bucket=48, padding=8)


async def test_what_an_earlier_prompt_left_is_not_computed() -> None:
    """36 tokens are the same: the 4 others are computed as 16; what is told beforehand knows of no other prompt."""
    second = (*PROMPT[:36], 600, 601, 602, 603)
    async with arithmetic_runtime(ResumingBackend(limits=LIMITS), plan=planned, reuse_prefixes=True) as runtime:
        first = cost_of(await reply(runtime, tokens_request(PROMPT, 3)))
        answer = await reply(runtime, tokens_request(second, 3))
        told = (await runtime.tokenize(tokens_request(second))).cost
    assert first == told == PromptCost(bucket=48, padding=8)
    assert ids(answer) == expected(second, 3)
    assert cost_of(answer) == PromptCost(cached_tokens=36, bucket=16, padding=12)


async def test_pictures_are_told() -> None:
    """With the tiles and the placeholders of each, in a reply and beforehand."""
    prompt = TokenPrompt((1, *[500] * 33), IMAGES, (), PLACES)
    wanted = PromptCost((ImageCost(5, 12), ImageCost(3, 20)), bucket=34, padding=0)
    async with arithmetic_runtime(prepare=lambda _request: prompt) as runtime:
        assert cost_of(await reply(runtime, tokens_request([1], 2))) == wanted
        assert (await runtime.tokenize(tokens_request([1]))).cost == wanted
