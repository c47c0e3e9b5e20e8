"""Packed rows give what the stock model gives for each conversation by itself."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
import torch
import torch.nn.functional as F
import transformers
from architecture import new_model, normalised
from encoding import Encoder
from forward import picture_features
from losses import answer_loss
from packaging.version import Version
from questions import questions_about
from runtime.demo import MODEL
from runtime.demo.drawing import draw
from runtime.demo.scene import sample_scene
from tiles import tiles_of
from transformers import AutoTokenizer

pytestmark = pytest.mark.skipif(
    Version(transformers.__version__).major < 5, reason="the recipe is written for transformers 5"
)


@torch.no_grad()
def test_packed_losses_equal_the_stock_forward() -> None:
    """Two pictures of different size, five questions each, the second time as chained conversations."""
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    model, encoder, rng = new_model(tokenizer).eval(), Encoder(tokenizer), Random(3)
    scenes = [sample_scene(rng) for _ in range(2)]
    asked = [questions_about(scene, rng)[:5] for scene in scenes]
    tiles = [tiles_of(draw(scene)) for scene in scenes]
    sizes = [(scene.height, scene.width) for scene in scenes]
    features = picture_features(model, tiles, sizes)
    start = model.model.language_model.embed_tokens(torch.tensor(encoder.picture_prefix))
    rows = [encoder.segments(questions, picture=True, chained=row == 1) for row, questions in enumerate(asked)]
    packed = answer_loss(model, encoder, [torch.cat([start, picture]) for picture in features.packed], rows)

    alone = []
    for row, segments in enumerate(rows):
        picture = [model.config.image_token_id] * len(features.packed[row])
        for segment in segments:
            ids = torch.tensor([*encoder.picture_prefix, *picture, *segment.ids])
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
    tokenizer = AutoTokenizer.from_pretrained(Path(MODEL))
    encoder, rng = Encoder(tokenizer), Random(8)
    first, second = questions_about(sample_scene(rng), rng)[:2]
    segment = encoder.conversation([first, second], picture=True)
    whole = f"[INST] <image>\n{first.text} [/INST] {first.answer}</s>[INST] {second.text} [/INST] {second.answer}</s>"
    image = tokenizer.convert_tokens_to_ids("<image>")
    assert [*encoder.picture_prefix, image, *segment.ids] == tokenizer(whole).input_ids
    said = [token for token, counted in zip(segment.ids, segment.is_answer, strict=True) if counted]
    assert tokenizer.decode(said) == f"{first.answer}</s> {second.answer}</s>"
