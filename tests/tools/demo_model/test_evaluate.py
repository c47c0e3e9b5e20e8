"""The packed evaluation says of each question what generate() says."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
import torch
import transformers
from architecture import normalised
from encoding import CHAT, RAW, Encoder, Form
from evaluate import Evaluation, agreement
from evaluation_set import Example, picture_examples, suggested_examples
from mistakes import MISTAKES, blurred_detail, features_of, grey_base, grey_detail
from packaging.version import Version
from runtime.demo import MODEL
from runtime.demo.questions import Question
from tiles import tiles_of
from transformers import AutoTokenizer, LlavaNextForConditionalGeneration

pytestmark = pytest.mark.skipif(
    Version(transformers.__version__).major < 5, reason="the recipe is written for transformers 5"
)


class Wrong(Evaluation):
    """A model that is always wrong."""

    def right(self, examples: Sequence[Example], *_: Any) -> list[list[bool]]:
        """Return no for every question."""
        return [[False] * len(example.questions) for example in examples]


@torch.no_grad()
@pytest.mark.parametrize("form", [CHAT, RAW], ids=["chat", "raw"])
def test_packed_scores_equal_generate(form: Form) -> None:
    """Three pictures of each source, all their questions, answer by answer in float32."""
    evaluation = Evaluation(MODEL)
    encoder = Encoder(AutoTokenizer.from_pretrained(MODEL))
    model = LlavaNextForConditionalGeneration.from_pretrained(MODEL, dtype=torch.float32)
    for example in itertools.chain(picture_examples("drawn", 3, 99), picture_examples("svg", 3, 99)):
        tiles = tiles_of(example.image)
        size = (example.scene.height, example.scene.width)
        image = [model.config.image_token_id] * len(features_of()(model, [example.image])[0])
        for question, right in zip(example.questions, evaluation.right([example], form)[0], strict=True):
            segment = encoder.first_turn(question, form)
            answer = segment.is_answer.index(True)
            prompt = torch.tensor([[*encoder.prefix(form), *image, *segment.ids[:answer]]])
            said = model.generate(
                input_ids=prompt,
                attention_mask=torch.ones_like(prompt),
                pixel_values=normalised(tiles)[None],
                image_sizes=torch.tensor([size]),
                do_sample=False,
                max_new_tokens=64,
            )[0, prompt.shape[1] :]
            assert right == (tuple(said.tolist()) == segment.ids[answer:]), question


def test_text_is_scored_without_a_picture() -> None:
    """A greeting that the model has by heart, and one that it would never give."""
    right = Question("chat", "Goodbye.", "Goodbye! Come back with more pictures.")
    wrong = Question("chat", "Goodbye.", "Goodbye.")
    assert Evaluation(MODEL).of_text([right, wrong]).cell() == "0.500 (1 of 2)"


def test_suggested_questions_are_answered_right() -> None:
    """What `runtime demo picture` prints, about forty pictures: at most one is wrong."""
    tally = Evaluation(MODEL).of_pictures(suggested_examples(40, 5000))
    assert tally.share() > 0.996
    assert {"caption", "count", "shape", "where", "number"} <= set(tally.kinds)


def test_types_agree_about_most_questions() -> None:
    """bfloat16 is what is served; one that is never right agrees with the model where that is wrong."""
    examples = list(picture_examples("svg", 4, 5))
    asked = sum(len(example.questions) for example in examples)
    model = Evaluation(MODEL)
    same, compared = agreement(model, Evaluation(MODEL, torch.bfloat16), examples)
    assert compared == asked
    assert same >= 0.99 * asked
    right = sum(sum(answers) for answers in model.right(examples))
    assert agreement(model, Wrong(MODEL), examples) == (asked - right, asked)


def test_views_change_only_the_tiles_they_name() -> None:
    """Tile 0 is the base."""
    image = next(picture_examples("drawn", 1, 1)).image
    whole, blurred, no_detail, no_base = (v(image) for v in (tiles_of, blurred_detail, grey_detail, grey_base))
    assert (blurred[0] == whole[0]).all()
    assert (blurred[1:] != whole[1:]).any()
    assert (no_detail[0] == whole[0]).all()
    assert (no_detail[1:] == 128).all()
    assert (no_base[0] == 128).all()
    assert (no_base[1:] == whole[1:]).all()


@torch.no_grad()
@pytest.mark.parametrize("mistake", ["last layer", "class token kept", "no newline", "not unpadded"])
def test_a_mistake_changes_the_features_and_nothing_else(mistake: str) -> None:
    """Without newlines there are fewer tokens, with padding more, else as many."""
    model = LlavaNextForConditionalGeneration.from_pretrained(MODEL, dtype=torch.float32)
    images = [example.image for example in picture_examples("svg", 4, 7)]
    for right, wrong in zip(features_of()(model, images), MISTAKES[mistake](model, images), strict=True):
        assert wrong.shape[1] == right.shape[1]
        if mistake == "no newline":
            assert len(wrong) < len(right)
        elif mistake == "not unpadded":
            assert len(wrong) >= len(right)
        else:
            assert len(wrong) == len(right)
            assert not torch.equal(wrong, right)
