"""Questions and answers as token ids, exactly as the tokenizer gives them inside a whole prompt.

The prompt is `<s>[INST] <image>\\nQuestion [/INST] Answer</s>`, a further turn `[INST] Question [/INST] Answer</s>`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from runtime.demo.questions import Question
from runtime.demo.vocabulary import COLOURS, SHAPES, plural
from transformers import PreTrainedTokenizerBase

TURNS_OF_A_CONVERSATION = 3


@dataclass(frozen=True, slots=True)
class Segment:
    """One or more turns that follow a prefix and see nothing of other segments."""

    ids: tuple[int, ...]
    is_answer: tuple[bool, ...]
    """For each id whether the model is to say it."""

    def __add__(self, later: Segment) -> Segment:
        return Segment(self.ids + later.ids, self.is_answer + later.is_answer)


class Encoder:
    """The tokenizer's view of prefixes, turns and the words for shapes and colours."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        pad = tokenizer.pad_token_id
        assert isinstance(pad, int)
        self.pad = pad
        # The same few thousand texts come again and again.
        self._ids = lru_cache(maxsize=60_000)(lambda text: tuple[int, ...](tokenizer(text).input_ids))
        self.picture_prefix = self._ids("[INST] <image>")[:-1]
        """What comes before a picture's own tokens."""
        self.text_prefix = self._ids("[INST]")
        self.colours = self._words(COLOURS)  # int64 [colours], cpu
        self.shapes = self._words(SHAPES)  # int64 [shapes], cpu
        self.plurals = self._words(plural(shape) for shape in SHAPES)  # int64 [shapes], cpu
        self.shape_of_token = torch.zeros(len(tokenizer), dtype=torch.long)  # shape from 1, 0 for any other word
        for words in (self.shapes, self.plurals):
            self.shape_of_token[words] = torch.arange(1, len(SHAPES) + 1)

    def first_turn(self, question: Question, *, picture: bool) -> Segment:
        """Return the turn that follows a prefix."""
        if picture:
            return self._turn("[INST] <image>", f"\n{question.text} [/INST]", question.answer)
        return self._turn("[INST]", f" {question.text} [/INST]", question.answer)

    def conversation(self, questions: Sequence[Question], *, picture: bool) -> Segment:
        """Return several turns in a row; at least one."""
        segment = self.first_turn(questions[0], picture=picture)
        for question in questions[1:]:
            segment += self._turn("</s>", f"[INST] {question.text} [/INST]", question.answer)
        return segment

    def segments(self, questions: Sequence[Question], *, picture: bool, chained: bool) -> list[Segment]:
        """Return a segment for each question, or conversations of three turns if they are chained."""
        size = TURNS_OF_A_CONVERSATION if chained else 1
        return [
            self.conversation(questions[start : start + size], picture=picture)
            for start in range(0, len(questions), size)
        ]

    def _turn(self, before: str, asked: str, answer: str) -> Segment:
        """Return the ids after `before`: encoded behind it, because words join differently at the start of a text."""
        start = len(self._ids(before))
        middle = len(self._ids(before + asked))
        ids = self._ids(f"{before}{asked} {answer}</s>")[start:]
        return Segment(ids, (False,) * (middle - start) + (True,) * (len(ids) - (middle - start)))

    def _words(self, words: Iterable[str]) -> torch.Tensor:
        """Return the token of each word; every one has a token of its own."""
        ids = torch.tensor([self._tokenizer.convert_tokens_to_ids(f"▁{word}") for word in words])
        assert ids.min() > 2
        return ids
