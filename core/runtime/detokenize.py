"""Token ids -> text, one id at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

INCOMPLETE: Final = "\N{REPLACEMENT CHARACTER}"
CONTEXT_TOKENS: Final = 5
"""Tokens decoded before the new ones, so that a leading space is not mistaken for the start of a text."""
LONGEST_CHARACTER: Final = 4
"""Bytes, and so at most tokens, of a UTF-8 character."""


class TextStream:
    """The text each new token adds; never half a character.

    A token that ends inside a character adds nothing; the token that completes it adds the whole. Bytes that can
    no longer become a character are shown as U+FFFD. Method of the two offsets as in TGI (server/models/model.py,
    `decode_token`).
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], context: Sequence[int] = ()) -> None:
        """`decode` keeps special tokens; `context` is the prompt's end."""
        self._decode = decode
        self._ids = list(context[-CONTEXT_TOKENS:])
        self._shown = len(self._ids)
        self._known = decode(self._ids) if self._ids else ""

    @property
    def pending(self) -> str:
        """What is left when no token follows: the bytes of an unfinished character, as U+FFFD."""
        return self._decode(self._ids)[len(self._known) :]

    def peek(self, token: int) -> str:
        """Return what a token would add, were it the next."""
        text = self._decode([*self._ids, token])
        return "" if text.endswith(INCOMPLETE) else text[len(self._known) :]

    def push(self, token: int) -> str:
        """Append a token and return the text it completes."""
        self._ids.append(token)
        addition = ""
        while self._shown < len(self._ids):
            text = self._decode(self._ids)
            if not text.endswith(INCOMPLETE):
                addition += text[len(self._known) :]
                self._ids = self._ids[self._shown :]
                self._shown = len(self._ids)
                self._known = self._decode(self._ids)
            elif len(self._ids) - self._shown < LONGEST_CHARACTER:
                break
            else:  # the oldest pending byte can begin no character any more
                addition += INCOMPLETE
                self._ids = self._ids[self._shown + 1 :]
                self._shown, self._known = 0, ""
        return addition
