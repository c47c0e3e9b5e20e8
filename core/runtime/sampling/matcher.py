"""Where one reply stands in its grammar."""

from __future__ import annotations

from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING

from runtime.errors import InvalidRequest

if TYPE_CHECKING:
    from llguidance import LLMatcher


class Matcher:
    """Tells which tokens may come next; used by one thread.

    Each mask is worked out on another thread as soon as the token before it is known, so that it is ready, or nearly,
    when the device has computed the next logits.
    """

    def __init__(self, state: LLMatcher, pool: Executor, closing: bytes) -> None:
        """`closing` allows the end of the reply and nothing else."""
        self._state = state
        self._pool = pool
        self._closing = closing
        self._next: Future[bytes] = pool.submit(self._masked)

    def mask(self) -> bytes:
        """Return a bit per id of the tokenizer, the lowest bit of a byte first: whether the id may come next.

        When the grammar is complete only the end of the reply may come; so too after a failure, which `advance` tells.
        """
        return self._next.result()

    def advance(self, token: int) -> None:
        """Take the chosen token.

        Raises InvalidRequest when the grammar has become too complex to follow, or no token continues it.
        """
        self._next.result()
        if self._state.is_error():
            raise InvalidRequest("`grammar` became too complex to follow for this reply; simplify it")
        self._next = self._pool.submit(self._advanced, token)

    @property
    def is_finished(self) -> bool:
        """Whether nothing but the end of the reply can follow."""
        self._next.result()
        return self._state.is_stopped()

    def _advanced(self, token: int) -> bytes:
        self._state.consume_token(token)
        return self._masked()

    def _masked(self) -> bytes:
        mask = b"" if self._state.is_error() else self._state.compute_bitmask()
        return self._closing if self._state.is_error() else mask
