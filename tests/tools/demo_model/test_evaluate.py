"""The packed evaluation says of each question what generate() says."""

from __future__ import annotations

import itertools

import pytest
import torch
import transformers
from architecture import normalised
from encoding import Encoder
from evaluate import Evaluation, blurred_detail, grey_base, grey_detail
from examples import Example, known_examples, text_examples
from forward import picture_features
from packaging.version import Version
from runtime.demo import MODEL
from runtime.demo.drawing import draw
from tiles import tiles_of
from transformers import AutoTokenizer, LlavaNextForConditionalGeneration

pytestmark = pytest.mark.skipif(
    Version(transformers.__version__).major < 5, reason="the recipe is written for transformers 5"
)


RELIABLE = ("caption", "count", "shape", "background", "number")
"""Kinds whose answers are no coin toss, so that bfloat16 and float32 agree on them."""


@torch.no_grad()
def test_packed_scores_equal_generate() -> None:
    """Five known pictures, the questions of the reliable kinds, answer by answer."""
    evaluation = Evaluation(MODEL)
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    encoder = Encoder(tokenizer)
    model = LlavaNextForConditionalGeneration.from_pretrained(MODEL, dtype=torch.float32)
    for example in known_examples(5):
        tiles = tiles_of(draw(example.scene))
        size = (example.scene.height, example.scene.width)
        tokens = len(picture_features(model, [tiles], [size]).packed[0])
        for question in example.questions:
            if question.kind not in RELIABLE:
                continue
            segment = encoder.first_turn(question, picture=True)
            answer = segment.is_answer.index(True)
            image = [model.config.image_token_id] * tokens
            prompt = torch.tensor([[*encoder.picture_prefix, *image, *segment.ids[:answer]]])
            said = model.generate(
                input_ids=prompt,
                attention_mask=torch.ones_like(prompt),
                pixel_values=normalised(tiles)[None],
                image_sizes=torch.tensor([size]),
                do_sample=False,
                max_new_tokens=64,
            )[0, prompt.shape[1] :]
            right = tuple(said.tolist()) == segment.ids[answer:]
            tally = evaluation.of_pictures([Example(example.scene, (question,))])
            assert tally.cell().startswith("1.000" if right else "0.000"), question


def test_text_is_scored_without_a_picture() -> None:
    """The model has its small talk by heart."""
    assert Evaluation(MODEL).of_text(itertools.islice(text_examples(16), 16)).cell() == "1.000 (16 of 16)"


def test_views_change_only_the_tiles_they_name() -> None:
    """Tile 0 is the base."""
    image = draw(next(known_examples(1)).scene)
    whole, blurred, no_detail, no_base = (v(image) for v in (tiles_of, blurred_detail, grey_detail, grey_base))
    assert (blurred[0] == whole[0]).all()
    assert (blurred[1:] != whole[1:]).any()
    assert (no_detail[0] == whole[0]).all()
    assert (no_detail[1:] == 128).all()
    assert (no_base[0] == 128).all()
    assert (no_base[1:] == whole[1:]).all()
