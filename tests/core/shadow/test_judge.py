"""Verdicts of the shadow itself, with transformers as the shadow and the `cpu` backend as what is judged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from runtime.backend import DecodeBatch, DecodeShape, Limits, ModelSpec, Placement, PrefillBatch, PrefillShape
from runtime.model import read_model
from runtime.plugins import Hooks
from runtime.shadow.judge import Judge, Judgement, Pictures, Question
from runtime.verify.prompts import PromptMaker
from runtime.verify.verdict import MULTIPLE
from runtime_cpu_reference import load as load_reference
from runtime_torch.cpu import Cpu
from support.checkpoints import Checkpoint, write_checkpoint

LIMITS = Limits(rows=1, context=256, prefill_rows=1, prefill_tokens=256)
REPLY = (40, 50, 60, 70)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    """A small random one."""
    return read_model(write_checkpoint(tmp_path_factory.mktemp("model"), Checkpoint()))


@pytest.fixture(scope="module")
def loads() -> list[str]:
    """The types that the shadow was loaded in."""
    return []


@pytest.fixture(scope="module")
def judge(model: ModelSpec, loads: list[str]) -> Judge:
    """The reference."""

    def load(dtype: str) -> Hooks:
        loads.append(dtype)
        limits = replace(LIMITS, options={"reference_dtype": dtype})
        return Hooks("cpu_reference", load_reference(model, limits), model, limits)

    return Judge(model, LIMITS.prefill_tokens, load)


def questions(model: ModelSpec, reply: tuple[int, ...] = REPLY) -> list[Question]:
    """A prompt with a picture and a reply, with the scores of `cpu` in bfloat16."""
    prompt = PromptMaker(model, 200, "judge").pictured(20, (40, 50))
    backend = Hooks("cpu", Cpu(model, LIMITS, torch.bfloat16, 0), model, LIMITS)
    zero = torch.zeros(1, dtype=torch.int64)
    length = len(prompt.tokens)
    tokens = torch.tensor([prompt.tokens])
    batch = PrefillBatch(PrefillShape(1, length), tokens, torch.tensor([length]), zero, zero, (prompt.images,))
    output = backend.prefill(batch)
    backend.concatenate(output.prefix, [Placement(0, 0)])
    images = prompt.images
    assert images is not None
    pictures = Pictures(images.tiles.numpy(), images.counts, images.sizes, images.digests)
    asked = [Question(prompt.tokens, output.logits[0].float().numpy(), "bfloat16", True, pictures)]
    for index, token in enumerate(reply):
        step = DecodeBatch(
            DecodeShape(1, 256), torch.tensor([token]), torch.tensor([length + index]), torch.tensor([True])
        )
        asked.append(Question((token,), backend.decode(step).logits[0].float().numpy(), "bfloat16", False))
    return asked


def is_fine(judgement: Judgement) -> bool:
    return judgement.error < MULTIPLE and (judgement.difference is None or judgement.difference.is_noise)


def test_right_backend(judge: Judge, model: ModelSpec, loads: list[str]) -> None:
    """Rounding is no fault; it was measured once, in the type of the backend, before the shadow was loaded for good."""
    for _ in range(2):  # of two rows, the second begins anew
        judgements = [judge.judged(question) for question in questions(model)]
        assert all(is_fine(each) for each in judgements)
        assert all(each.error > 0 and each.kl < 0.01 for each in judgements)
    assert loads == ["bfloat16", "float32"]


def test_wrong_scores(judge: Judge, model: ModelSpec) -> None:
    """Those of another token: an error in multiples of the noise, and a difference with its margin."""
    asked = questions(model)
    moved = [replace(each, logits=np.roll(each.logits, 1)) for each in asked]
    judgements = [judge.judged(question) for question in moved]
    length = len(asked[0].tokens)
    for index, (judgement, question) in enumerate(zip(judgements, asked, strict=True)):
        assert judgement.error > MULTIPLE
        difference = judgement.difference
        assert difference is not None
        assert not difference.is_noise
        assert difference.position == length + index
        assert difference.got == (int(question.logits.argmax()) + 1) % model.vocabulary


def test_no_numbers(judge: Judge, model: ModelSpec) -> None:
    """As far off as can be."""
    (question, *_) = questions(model)
    judgement = judge.judged(replace(question, logits=np.full_like(question.logits, np.nan)))
    assert judgement.error == float("inf")
    assert judgement.kl == float("inf")
