"""What a receipt tells of a reply: from the engine's steps to the completion."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
import torch
from runtime.backend import DecodeShape, Images, Limits, PrefillShape, ShapePlan
from runtime.budgets import Budgets
from runtime.prompt_digest import prompt_digest
from runtime.receipt import DecodeUse, PrefillUse, PromptFacts, Receipt, ServerFacts, ShapesUsed, VisionUse
from runtime.recording import Recording, parameters_of, prompt_facts
from runtime.runtime import (
    Delta,
    FinishReason,
    GenerateRequest,
    Grammar,
    GrammarKind,
    Resumption,
    SamplingParameters,
    StepRequest,
    StoppingParameters,
)
from support.arithmetic import expected
from support.resuming import ResumingBackend
from support.serving import LIMITS, MODEL, TokenPrompt, arithmetic_runtime, info, reply, tokens_request

pytestmark = pytest.mark.anyio

PROMPT = (1, *[500] * 19)
IMAGES = Images(torch.zeros(8, 3, 56, 56), counts=(5, 3), sizes=((9, 9), (8, 8)), digests=(b"a" * 32, b"b" * 32))
PLACES = (slice(1, 9), slice(10, 18))
ASKED = replace(tokens_request(PROMPT, 6), receipt=True)


def receipt_of(delta: Delta) -> Receipt:
    assert delta.completion is not None
    assert delta.completion.receipt is not None
    return delta.completion.receipt


def planned(_limits: Limits, _budgets: Budgets, _resumes: bool) -> ShapePlan:
    return ShapePlan(
        prefill=tuple(PrefillShape(rows, 32) for rows in (1, 2)),
        decode=(DecodeShape(LIMITS.rows, 24), DecodeShape(LIMITS.rows, LIMITS.context)),
    )


async def test_greedy_reply() -> None:
    """Everything about the server, the request and the reply; 20 tokens, then steps that hold 21 to 25."""
    async with arithmetic_runtime() as runtime:
        receipt = receipt_of(await reply(runtime, ASKED))
    facts = info()
    assert receipt == Receipt(
        server=ServerFacts(
            model_id="demo",
            model_digest=MODEL.digest,
            weights_dtype=MODEL.dtype,
            runtime=facts.version,
            contract=facts.contract,
            backend="arithmetic",
            backend_version="1.0",
            device="cpu",
        ),
        prompt=PromptFacts(prompt_digest(PROMPT, None), 20),
        seed=None,
        parameters={"max_new_tokens": 6},
        shapes=ShapesUsed((PrefillUse(1, 20, 0, 1),), (DecodeUse(1, 21, 25, 5),)),
        tokens=tuple(expected(PROMPT, 6)),
        finish_reason="length",
    )


async def test_nobody_asked() -> None:
    """Then nothing is recorded."""
    async with arithmetic_runtime() as runtime:
        completion = (await reply(runtime, tokens_request(PROMPT, 6))).completion
    assert completion is not None
    assert completion.receipt is None
    assert Recording.of(tokens_request(PROMPT), info(), {}) is None


async def test_seed_that_was_drawn() -> None:
    """It is the one of the completion, and it gives the same reply."""
    sampled = replace(tokens_request(PROMPT, 6, do_sample=True, temperature=2.0), receipt=True)
    async with arithmetic_runtime() as runtime:
        delta = await reply(runtime, sampled)
        first = receipt_of(delta)
        again = receipt_of(await reply(runtime, replace(sampled, sampling=replace(sampled.sampling, seed=first.seed))))
    assert delta.completion is not None
    assert first.seed == delta.completion.seed is not None
    assert again == first
    assert first.parameters == {"do_sample": True, "temperature": 2.0, "max_new_tokens": 6}


async def test_planned_shapes() -> None:
    """The prompt is padded to 32, and all slots decode: to 24 tokens three times less one, then to 64."""
    async with arithmetic_runtime(plan=planned) as runtime:
        receipt = receipt_of(await reply(runtime, ASKED))
    assert receipt.shapes == ShapesUsed(
        (PrefillUse(1, 32, 0, 1),),
        (DecodeUse(LIMITS.rows, 24, 24, 4), DecodeUse(LIMITS.rows, LIMITS.context, LIMITS.context, 1)),
    )


async def test_neighbours_are_told() -> None:
    """Two prompts in one prefill, then two rows in a step; each receipt tells both."""
    async with arithmetic_runtime() as runtime:
        requests = [StepRequest(1, ASKED), StepRequest(2, replace(tokens_request(PROMPT[:9], 6), receipt=True))]
        step = await runtime.prefill(requests)
        while step.batch is not None:
            step = await runtime.decode([step.batch.id])
    for _, delta in step.deltas:
        assert receipt_of(delta).shapes == ShapesUsed((PrefillUse(2, 20, 0, 1),), (DecodeUse(2, 21, 25, 5),))


async def test_parts_and_reuse() -> None:
    """In parts of at most 16; the second prompt begins as the first, so of its 40 tokens 36 are held already."""
    prompt = (1, *[500] * 39)
    second = (*prompt[:36], 600, 600, 600, 600)
    async with arithmetic_runtime(ResumingBackend(limits=LIMITS), prefill_chunk=16, reuse_prefixes=True) as runtime:
        receipts = [
            receipt_of(await reply(runtime, replace(tokens_request(each, 3), receipt=True)))
            for each in (prompt, second)
        ]
    parts, reused = (receipt.shapes.prefill for receipt in receipts)
    assert parts == (PrefillUse(1, 8, 32, 1), PrefillUse(1, 16, 0, 1), PrefillUse(1, 16, 16, 1))
    assert reused == (PrefillUse(1, 4, 36, 1),)


async def test_pictures() -> None:
    """Their digests and tiles, and no pixel."""
    prompt = TokenPrompt(PROMPT, IMAGES, places=PLACES)
    async with arithmetic_runtime(prepare=lambda _request: prompt) as runtime:
        receipt = receipt_of(await reply(runtime, ASKED))
    assert receipt.prompt == PromptFacts(prompt_digest(PROMPT, IMAGES), 20, ("61" * 32, "62" * 32))
    assert receipt.shapes.vision == (VisionUse(3, 1), VisionUse(5, 1))


async def test_reply_that_went_on_in_another_worker() -> None:
    """All of its tokens, and how many were told before."""
    tokens = expected(PROMPT, 6)
    resumed = replace(ASKED, resumption=Resumption(tuple(tokens[:2]), prompt_digest(PROMPT, None)))
    async with arithmetic_runtime() as runtime:
        receipt = receipt_of(await reply(runtime, resumed))
    assert (receipt.tokens, receipt.resumed_tokens) == (tuple(tokens), 2)


def test_step_of_a_row_that_had_ended_is_left_out() -> None:
    """On an asynchronous device it was launched before the text of the last token was known."""
    recording = Recording.of(ASKED, info(), {})
    assert recording is not None
    recording.prefilled(PrefillShape(1, 20), None)
    for context in (21, 22, 23):
        recording.decoded(DecodeShape(1, context))
    receipt = recording.receipt(prompt_facts("", PROMPT, None), None, [7, 8, 9], FinishReason.STOP_SEQUENCE, 0)
    assert receipt.shapes.decode == (DecodeUse(1, 21, 22, 2),)


def test_what_the_loaded_backend_tells() -> None:
    """Beside what was known before it was loaded; the device has its own field."""
    given = replace(info(), details={"device": "cpu", "deterministic": "true"})
    recording = Recording.of(ASKED, given, {"compute_dtype": "bfloat16"})
    assert recording is not None
    assert recording.server.details == {"deterministic": "true", "compute_dtype": "bfloat16"}


def test_parameters_that_are_not_neutral() -> None:
    """By their names; the seed has its own place, and a grammar is told by its digest."""
    request = GenerateRequest(
        sampling=SamplingParameters(top_p=0.9, frequency_share=0.5, seed=3),
        stopping=StoppingParameters(stop=(".", "!"), ignore_eos=True),
        grammar=Grammar(GrammarKind.REGEX, "a+"),
    )
    digest = hashlib.sha256(b"a+").hexdigest()
    assert parameters_of(request) == {
        "top_p": 0.9,
        "frequency_share": 0.5,
        "stop": [".", "!"],
        "ignore_eos": True,
        "grammar": {"kind": "regex", "digest": digest},
    }
    assert parameters_of(GenerateRequest()) == {}
