"""Packed rows give what the stock model gives for each conversation by itself."""

from __future__ import annotations

from random import Random

import pytest
import torch
import torch.nn.functional as F
import transformers
from architecture import new_model, normalised
from encoding import CHAT, RAW, Encoder, Segment
from forward import picture_features
from losses import answer_loss
from packaging.version import Version
from packing import whole_answers
from questions import questions_about
from runtime.demo import MODEL
from runtime.demo.drawing import draw
from runtime.demo.questions import Question
from runtime.demo.scene import sample_scene
from tiles import tiles_of
from transformers import AutoTokenizer

pytestmark = pytest.mark.skipif(
    Version(transformers.__version__).major < 5, reason="the recipe is written for transformers 5"
)


@torch.no_grad()
def test_packed_losses_equal_the_stock_forward() -> None:
    """Two pictures of different size, five questions each; one row as conversations, one without a template."""
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    model, encoder, rng = new_model(tokenizer).eval(), Encoder(tokenizer), Random(3)
    scenes = [sample_scene(rng) for _ in range(2)]
    asked = [questions_about(scene, rng)[:5] for scene in scenes]
    tiles = [tiles_of(draw(scene)) for scene in scenes]
    sizes = [(scene.height, scene.width) for scene in scenes]
    features = picture_features(model, tiles, sizes)
    starts = [encoder.prefix(form) for form in (CHAT, RAW)]
    embedded = [model.model.language_model.embed_tokens(torch.tensor(start)) for start in starts]
    rows = [encoder.conversations(asked[0], CHAT), [encoder.first_turn(question, RAW) for question in asked[1]]]
    prefixes = [torch.cat([start, picture]) for start, picture in zip(embedded, features.packed, strict=True)]
    packed = answer_loss(model, encoder, prefixes, rows)

    alone = []
    for row, segments in enumerate(rows):
        picture = [model.config.image_token_id] * len(features.packed[row])
        for segment in segments:
            ids = torch.tensor([*starts[row], *picture, *segment.ids])
            logits = model(
                input_ids=ids[None],
                pixel_values=normalised(tiles[row])[None],
                image_sizes=torch.tensor([sizes[row]]),
            ).logits[0]
            losses = F.cross_entropy(logits[:-1], ids[1:], reduction="none")
            first = len(ids) - len(segment.ids)
            alone += [losses[first + k - 1] for k, counted in enumerate(segment.is_answer) if counted]
    torch.testing.assert_close(packed.entropy, torch.stack(alone), atol=1e-5, rtol=1e-5)


def test_segments_are_cut_where_the_tokenizer_cuts_the_whole_prompt() -> None:
    """A conversation of two turns, encoded in pieces and at once."""
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    encoder, rng = Encoder(tokenizer), Random(8)
    first, second = questions_about(sample_scene(rng), rng)[:2]
    segment = encoder.conversation([first, second], CHAT)
    whole = f"[INST] <image>\n{first.text} [/INST] {first.answer}</s>[INST] {second.text} [/INST] {second.answer}</s>"
    image = tokenizer.convert_tokens_to_ids("<image>")
    assert [*encoder.prefix(CHAT), image, *segment.ids] == tokenizer(whole).input_ids
    said = [token for token, counted in zip(segment.ids, segment.is_answer, strict=True) if counted]
    assert tokenizer.decode(said) == f"{first.answer}</s> {second.answer}</s>"


def test_the_raw_form_is_picture_question_and_an_empty_line() -> None:
    """As the guide sends it; the answer is the same tokens as in the chat form."""
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    encoder = Encoder(tokenizer)
    question = Question("count", "How many shapes are there?", "There is one shape.")
    segment = encoder.first_turn(question, RAW)
    whole = tokenizer(f"<image>{question.text}\n\n {question.answer}</s>").input_ids
    assert [*encoder.prefix(RAW), tokenizer.convert_tokens_to_ids("<image>"), *segment.ids] == whole
    said = [token for token, counted in zip(segment.ids, segment.is_answer, strict=True) if counted]
    in_chat = encoder.first_turn(question, CHAT)
    assert said == [token for token, counted in zip(in_chat.ids, in_chat.is_answer, strict=True) if counted]


def test_an_answer_is_whole_when_all_its_tokens_are_right() -> None:
    """Two segments of three ids in a row of seven; what the last id of a segment says does not count."""
    segment = Segment((5, 6, 7), (False, True, True))
    right = torch.tensor([[True, True, False, True, False, True]])
    assert whole_answers(right, [[segment, segment]]) == [[True, False]]
