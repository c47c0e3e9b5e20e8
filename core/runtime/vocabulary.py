"""What a reply needs of the tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

INCOMPLETE: Final = "\N{REPLACEMENT CHARACTER}"
"""How `decode` shows bytes that make no character, or do not yet."""


class Vocabulary(Protocol):
    """The texts of ids."""

    def decode(self, ids: Sequence[int], skip_special_tokens: bool) -> str:
        """Return the text of ids."""
        ...

    def addition(self, id: int) -> str | None:
        """Return what an id adds to a text that is there and does not end inside a character.

        None where that takes more than the id to know, as for a part of a character.
        """
        ...

    def is_special(self, token: int) -> bool:
        """Whether an id is a control token, such as the end of a reply, and no text."""
        ...
