"""Step 6: exact-answer accuracy of a checkpoint, fast.

Greedy decoding gives the reference answer if and only if every reference token is the likeliest one after those before
it, so one packed forward scores all questions about a picture.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import click
import numpy as np
import torch
from encoding import Encoder, Segment
from examples import Example, held_out_examples, known_examples, text_examples
from forward import decode, picture_features
from packing import pack, stack_prefixes
from PIL import Image
from runtime.demo.anyres import TILE
from runtime.demo.drawing import draw
from runtime.demo.questions import Question
from tally import Tally, markdown_table
from tiles import Pixels, tiles_of
from transformers import AutoTokenizer, LlavaNextForConditionalGeneration

PICTURES_A_STEP = 8
TURNS_A_STEP = 16
GREY = 128

View = Callable[[Image.Image], Pixels]


def blurred_detail(image: Image.Image) -> Pixels:
    """Return tiles of which the fine ones show no more than the base tile does."""
    coarse = image.resize((TILE, TILE), Image.Resampling.BICUBIC).resize(image.size, Image.Resampling.BICUBIC)
    return np.concatenate([tiles_of(image)[:1], tiles_of(coarse)[1:]])


def grey_detail(image: Image.Image) -> Pixels:
    """Return tiles of which the fine ones are grey."""
    tiles = tiles_of(image)
    tiles[1:] = GREY
    return tiles


def grey_base(image: Image.Image) -> Pixels:
    """Return tiles of which the base one is grey."""
    tiles = tiles_of(image)
    tiles[0] = GREY
    return tiles


class Evaluation:
    """A model and its tokenizer."""

    def __init__(self, checkpoint: Path) -> None:
        self._model = LlavaNextForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32)
        self._encoder = Encoder(AutoTokenizer.from_pretrained(checkpoint))

    @torch.no_grad()
    def of_pictures(self, examples: Iterable[Example], view: View = tiles_of) -> Tally:
        """Return the tally over all questions about the pictures, seen as `view` shows them."""
        tally = Tally()
        remaining = iter(examples)
        while batch := list(itertools.islice(remaining, PICTURES_A_STEP)):
            rows = [[self._encoder.first_turn(q, picture=True) for q in example.questions] for example in batch]
            sizes = [(example.scene.height, example.scene.width) for example in batch]
            with torch.autocast("cpu", torch.bfloat16):
                features = picture_features(self._model, [view(draw(example.scene)) for example in batch], sizes)
                start = self._embedded(self._encoder.picture_prefix)
                right = self._right([torch.cat([start, picture]) for picture in features.packed], rows)
            for example, answers in zip(batch, right, strict=True):
                _count(tally, example.questions, answers)
        return tally

    @torch.no_grad()
    def of_text(self, questions: Iterable[Question]) -> Tally:
        """Return the tally over turns without a picture."""
        tally = Tally()
        remaining = iter(questions)
        while batch := list(itertools.islice(remaining, TURNS_A_STEP)):
            rows = [[self._encoder.first_turn(question, picture=False) for question in batch]]
            with torch.autocast("cpu", torch.bfloat16):
                right = self._right([self._embedded(self._encoder.text_prefix)], rows)
            _count(tally, batch, right[0])
        return tally

    def _embedded(self, ids: Sequence[int]) -> torch.Tensor:
        embedded: torch.Tensor = self._model.model.language_model.embed_tokens(torch.tensor(ids))
        return embedded

    def _right(self, prefixes: Sequence[torch.Tensor], rows: Sequence[Sequence[Segment]]) -> list[list[bool]]:
        """Return for each segment whether the model would say every token of its answer."""
        tail = pack([len(prefix) for prefix in prefixes], rows, self._encoder.pad)
        language_model = self._model.model.language_model
        hidden, _ = decode(language_model, stack_prefixes(prefixes), tail, language_model.embed_tokens(tail.ids))
        said = self._model.lm_head(hidden).argmax(-1)[:, :-1]
        token_right = (said == tail.labels[:, 1:]) | (tail.labels[:, 1:] < 0)
        result = []
        for row, segments in enumerate(rows):
            ends = list(itertools.accumulate((len(segment.ids) for segment in segments), initial=0))
            # The last id of a segment predicts nothing of its own.
            result.append([bool(token_right[row, a : b - 1].all()) for a, b in itertools.pairwise(ends)])
        return result


def _count(tally: Tally, questions: Iterable[Question], right: Iterable[bool]) -> None:
    for question, answer in zip(questions, right, strict=True):
        tally.add(question.kind, right=answer)


@click.command()
@click.argument("checkpoint", type=click.Path(exists=True, path_type=Path))
@click.option("--pictures", default=240, show_default=True, type=click.IntRange(1), help="Of each set.")
def main(checkpoint: Path, pictures: int) -> None:
    """Print tables of the exact-answer accuracy of CHECKPOINT."""
    torch.set_num_threads(1)
    evaluation = Evaluation(checkpoint)
    half = max(1, pictures // 2)
    click.echo(
        markdown_table(
            {
                "known pairs": evaluation.of_pictures(known_examples(pictures)),
                "held-out pairs": evaluation.of_pictures(held_out_examples(pictures)),
                "known, detail blurred": evaluation.of_pictures(known_examples(half), blurred_detail),
                "known, detail grey": evaluation.of_pictures(known_examples(half), grey_detail),
                "known, base grey": evaluation.of_pictures(known_examples(half), grey_base),
            }
        )
    )
    click.echo("\n" + markdown_table({"text only": evaluation.of_text(text_examples(320))}))


if __name__ == "__main__":
    main()
