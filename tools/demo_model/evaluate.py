"""Step 5: exact-answer accuracy of a checkpoint, fast.

Greedy decoding gives the reference answer if and only if every reference token is the likeliest one after those before
it, so one packed forward scores all questions about a picture.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

import click
import torch
from encoding import CHAT, TALK, Encoder, Form, Segment
from evaluation_set import SOURCES, Example, picture_examples, suggested_examples, text_examples
from forward import decode
from mistakes import MISTAKES, Features, features_of
from packing import pack, stack_prefixes, whole_answers
from runtime.demo.questions import Question
from tally import Tally, markdown_table
from transformers import AutoTokenizer, LlavaNextForConditionalGeneration

PICTURES_A_STEP = 8
TURNS_A_STEP = 16


class Evaluation:
    """A model and its tokenizer."""

    def __init__(self, checkpoint: Path, dtype: torch.dtype = torch.float32) -> None:
        self._model = LlavaNextForConditionalGeneration.from_pretrained(checkpoint, dtype=dtype)
        self._encoder = Encoder(AutoTokenizer.from_pretrained(checkpoint))

    def of_pictures(self, examples: Iterable[Example], form: Form = CHAT, features: Features | None = None) -> Tally:
        """Return the tally over all questions about the pictures, as `features` show them to the language model."""
        tally = Tally()
        remaining = iter(examples)
        while batch := list(itertools.islice(remaining, PICTURES_A_STEP)):
            for example, answers in zip(batch, self.right(batch, form, features), strict=True):
                _count(tally, example.questions, answers)
        return tally

    @torch.no_grad()
    def right(
        self, examples: Sequence[Example], form: Form = CHAT, features: Features | None = None
    ) -> list[list[bool]]:
        """Return for each question about each picture whether the model's answer is right."""
        rows = [[self._encoder.first_turn(question, form) for question in example.questions] for example in examples]
        start = self._embedded(form)
        pictures = (features or features_of())(self._model, [example.image for example in examples])
        return self._right([torch.cat([start, picture]) for picture in pictures], rows)

    @torch.no_grad()
    def of_text(self, questions: Iterable[Question]) -> Tally:
        """Return the tally over turns without a picture."""
        tally = Tally()
        remaining = iter(questions)
        while batch := list(itertools.islice(remaining, TURNS_A_STEP)):
            rows = [[self._encoder.first_turn(question, TALK) for question in batch]]
            _count(tally, batch, self._right([self._embedded(TALK)], rows)[0])
        return tally

    def _embedded(self, form: Form) -> torch.Tensor:
        ids = torch.tensor(self._encoder.prefix(form))
        embedded: torch.Tensor = self._model.model.language_model.embed_tokens(ids)
        return embedded

    def _right(self, prefixes: Sequence[torch.Tensor], rows: Sequence[Sequence[Segment]]) -> list[list[bool]]:
        tail = pack([len(prefix) for prefix in prefixes], rows, self._encoder.pad)
        language_model = self._model.model.language_model
        decoded = decode(language_model, stack_prefixes(prefixes), tail, language_model.embed_tokens(tail.ids))
        said = self._model.lm_head(decoded.said).argmax(-1)[:, :-1]
        return whole_answers((said == tail.labels[:, 1:]) | (tail.labels[:, 1:] < 0), rows)


def agreement(one: Evaluation, other: Evaluation, examples: Iterable[Example]) -> tuple[int, int]:
    """Return on how many questions both are right or both wrong, and of how many."""
    same = asked = 0
    for example in examples:
        answers = list(zip(one.right([example])[0], other.right([example])[0], strict=True))
        same += sum(right == also_right for right, also_right in answers)
        asked += len(answers)
    return same, asked


def _count(tally: Tally, questions: Iterable[Question], right: Iterable[bool]) -> None:
    for question, answer in zip(questions, right, strict=True):
        tally.add(question.kind, right=answer)


@click.command()
@click.argument("checkpoint", type=click.Path(exists=True, path_type=Path))
@click.option("--pictures", default=240, show_default=True, type=click.IntRange(1), help="Of each set.")
@click.option("--seed", default=1, show_default=True, help="Another one for every decision that figures lead to.")
@click.option("--mistakes", is_flag=True, help="Show instead what each mistake of a server costs.")
def main(checkpoint: Path, pictures: int, seed: int, *, mistakes: bool) -> None:
    """Print tables of the exact-answer accuracy of CHECKPOINT."""
    torch.set_num_threads(1)
    evaluation = Evaluation(checkpoint)
    if mistakes:
        shown = {"right": features_of(), **MISTAKES}
        drawn = list(picture_examples(SOURCES[0], pictures, seed))
        click.echo(markdown_table({name: evaluation.of_pictures(drawn, features=each) for name, each in shown.items()}))
        return
    columns = {
        f"{source}, {'held-out' if held_out else 'known'} pairs": evaluation.of_pictures(
            picture_examples(source, pictures, seed, held_out=held_out)
        )
        for source in SOURCES
        for held_out in (False, True)
    }
    click.echo(markdown_table(columns))
    others = {
        "`runtime demo picture`": evaluation.of_pictures(suggested_examples(pictures, 1000 * seed)),
        "text only": evaluation.of_text(text_examples(320, seed)),
    }
    click.echo("\n" + markdown_table(others))
    known = itertools.chain.from_iterable(picture_examples(source, pictures // 4, seed) for source in SOURCES)
    same, asked = agreement(evaluation, Evaluation(checkpoint, torch.bfloat16), known)
    click.echo(f"\nbfloat16 and float32 are both right or both wrong on {same} of {asked} questions.")


if __name__ == "__main__":
    main()
