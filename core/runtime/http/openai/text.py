"""The text of a reply as OpenAI tells it: up to the first stop text, and without special tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runtime.runtime import Token


def before_stop(text: str, stops: Sequence[str]) -> str:
    """Return the text up to the first stop text in it."""
    found = [position for stop in stops if (position := text.find(stop)) >= 0]
    return text[: min(found)] if found else text


@dataclass(frozen=True, slots=True)
class Piece:
    """Text that is certain, and the tokens whose first character it holds."""

    text: str
    tokens: tuple[Token, ...]


class ReplyText:
    """Hands text on as soon as it cannot be the beginning of a stop text."""

    def __init__(self, stops: Sequence[str]) -> None:
        self.stopped = False
        """Whether a stop text came: nothing is handed on any more."""
        self._stops = stops
        self._held = ""
        self._told = 0
        self._tokens: list[tuple[int, Token]] = []
        """Tokens not yet handed on, each with the place of its first character."""

    def push(self, tokens: Sequence[Token]) -> Piece:
        """Take new tokens; return what is certain now."""
        if self.stopped:
            return Piece("", ())
        for token in tokens:
            if not token.special:
                self._tokens.append((self._told + len(self._held), token))
                self._held += token.text
        certain = before_stop(self._held, self._stops)
        self.stopped = len(certain) < len(self._held)
        return self._released(len(certain) if self.stopped else len(self._held) - self._doubtful())

    def finish(self) -> Piece:
        """Return what was held back: the reply ended before it became a stop text."""
        return Piece("", ()) if self.stopped else self._released(len(self._held))

    def _doubtful(self) -> int:
        """Count the characters at the end that a stop text may begin with."""
        longest = max(map(len, self._stops), default=0)
        for length in range(min(longest - 1, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-length:]) for stop in self._stops):
                return length
        return 0

    def _released(self, length: int) -> Piece:
        text, self._held = self._held[:length], self._held[length:]
        self._told += length
        certain = [token for start, token in self._tokens if self._is_told(start, token)]
        self._tokens = [(start, token) for start, token in self._tokens if not self._is_told(start, token)]
        return Piece(text, tuple(certain))

    def _is_told(self, start: int, token: Token) -> bool:
        return start < self._told or (start == self._told and not token.text)
