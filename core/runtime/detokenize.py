"""Token ids -> text, one id at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from runtime.vocabulary import INCOMPLETE, Vocabulary

CONTEXT_TOKENS: Final = 5
"""Tokens decoded before the new ones, so that a leading space is not mistaken for the start of a text."""
LONGEST_CHARACTER: Final = 4
"""Bytes, and so at most tokens, of a UTF-8 character."""


class TextStream:
    """The text each new token adds; never half a character.

    A token that ends inside a character adds nothing; the token that completes it adds the whole. Bytes that can
    no longer become a character are shown as U+FFFD. Most tokens add the same text wherever they stand, and the
    vocabulary knows it; for the others the text is decoded with the token and without: the method of the two offsets,
    as in TGI (server/models/model.py, `decode_token`).
    """

    def __init__(self, vocabulary: Vocabulary, context: Sequence[int] = ()) -> None:
        """`context` is the prompt's end."""
        self._vocabulary = vocabulary
        self._ids = self._end_of(context)
        """What is decoded before the next token: tokens told, and behind them those that wait for more."""
        self._told = len(self._ids)
        self._is_whole = _is_whole(self._decoded(self._ids))
        """Whether there is text and it does not end inside a character."""

    @property
    def pending(self) -> str:
        """What is left when no token follows: the bytes of an unfinished character, as U+FFFD."""
        return "" if self._told == len(self._ids) else self._decoded(self._ids)[len(self._known) :]

    def peek(self, token: int) -> str:
        """Return what a token would add, were it the next."""
        addition = self._vocabulary.addition(token) if self._is_whole else None
        if addition is not None:
            return addition
        text = self._decoded((*self._ids, token))
        return "" if text.endswith(INCOMPLETE) else text[len(self._known) :]

    def push(self, token: int) -> str:
        """Append a token and return the text it completes."""
        addition = self._vocabulary.addition(token) if self._is_whole else None
        if addition is None:
            self._ids = (*self._ids, token)
            addition = self._completed()
            self._is_whole = self._told == len(self._ids) and (self._is_whole or addition != "")
        elif addition:
            self._ids, self._told = (token,), 1
        return addition

    def _completed(self) -> str:
        """Return the text of the tokens that wait, as far as it is whole."""
        addition = ""
        while self._told < len(self._ids):
            text, known = self._decoded(self._ids), self._known
            if not text.endswith(INCOMPLETE):
                new = text[len(known) :]
                addition += new
                if new:
                    self._ids = self._ids[self._told :]
                else:  # an id without text; were it alone before the next token, that would lose its leading space
                    self._ids = self._ids[: self._told] if known else self._ids[-CONTEXT_TOKENS:]
                self._told = len(self._ids)
            elif len(self._ids) - self._told < LONGEST_CHARACTER:
                break
            else:  # the oldest byte that waits can begin no character any more
                addition += INCOMPLETE
                self._ids = self._ids[self._told + 1 :]
                self._told = 0
        return addition

    @property
    def _known(self) -> str:
        """The text of the tokens told."""
        return self._decoded(self._ids[: self._told])

    def _end_of(self, context: Sequence[int]) -> tuple[int, ...]:
        """Return the last tokens, from the beginning of a character: half of one may spoil all bytes after it."""
        ends = [tuple(context[-count:]) for count in range(CONTEXT_TOKENS, 0, -1)]
        return next((end for end in ends if INCOMPLETE not in self._decoded(end)), ends[0])

    def _decoded(self, ids: Sequence[int]) -> str:
        return self._vocabulary.decode(ids, skip_special_tokens=False)


def _is_whole(text: str) -> bool:
    return text != "" and not text.endswith(INCOMPLETE)
