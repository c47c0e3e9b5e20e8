"""Questions and answers as token ids, exactly as the tokenizer gives them inside a whole prompt."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from runtime.demo.questions import Question
from runtime.demo.vocabulary import COLOURS
from transformers import PreTrainedTokenizerBase

TURNS_OF_A_CONVERSATION = 3


@dataclass(frozen=True, slots=True)
class Form:
    """How a question becomes a prompt; the answer follows after a space."""

    before: str
    """All that comes before the question, with `<image>` at its end if there is a picture."""
    asked: str
    """The rest of the prompt, with `{}` for the question."""


CHAT = Form("[INST] <image>", "\n{} [/INST]")
"""The chat template of llava-v1.6-mistral."""

CHAT_IN_LINE = Form("[INST] <image>", "{} [/INST]")
"""The same without the line end, as people write it."""

RAW = Form("<image>", "{}\n\n")
"""No template: the picture, the question, an empty line."""

TALK = Form("[INST]", " {} [/INST]")
"""The chat template without a picture."""

RAW_TALK = Form("", "{}\n\n")
"""No template and no picture."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One or more turns that follow a prefix and see nothing of other segments."""

    ids: tuple[int, ...]
    is_answer: tuple[bool, ...]
    """For each id whether the model is to say it."""

    def __add__(self, later: Segment) -> Segment:
        return Segment(self.ids + later.ids, self.is_answer + later.is_answer)


class Encoder:
    """The tokenizer's view of prefixes, turns and the words for colours."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        pad = tokenizer.pad_token_id
        assert isinstance(pad, int)
        self.pad = pad
        # The same few thousand texts come again and again.
        self._ids = lru_cache(maxsize=60_000)(lambda text: tuple[int, ...](tokenizer(text).input_ids))
        self.colours = self._words(COLOURS)  # int64 [colours]

    def prefix(self, form: Form) -> tuple[int, ...]:
        """Return the ids before a form's question, less those of the picture itself."""
        ids = self._ids(form.before)
        return ids[:-1] if form.before.endswith("<image>") else ids

    def first_turn(self, question: Question, form: Form) -> Segment:
        """Return the turn that follows a prefix."""
        return self._turn(form.before, form.asked.format(question.text), question.answer)

    def conversation(self, questions: Sequence[Question], form: Form) -> Segment:
        """Return several turns in a row; at least one, and all but the first in the chat form."""
        segment = self.first_turn(questions[0], form)
        for question in questions[1:]:
            segment += self._turn("</s>", f"[INST] {question.text} [/INST]", question.answer)
        return segment

    def conversations(self, questions: Sequence[Question], form: Form) -> list[Segment]:
        """Return the questions as conversations of three turns."""
        starts = range(0, len(questions), TURNS_OF_A_CONVERSATION)
        return [self.conversation(questions[start : start + TURNS_OF_A_CONVERSATION], form) for start in starts]

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
