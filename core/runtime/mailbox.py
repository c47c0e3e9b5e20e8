"""What happens to one request, on its way from the device thread to a reader on the event loop."""

from __future__ import annotations

import asyncio

from runtime.row import Outcome
from runtime.runtime import Delta


class Mailbox:
    """Outcomes in order; a slow reader gets several tokens at once. Used on the event loop only.

    Bounded by the tokens of one reply.
    """

    def __init__(self) -> None:
        self._outcomes: list[Outcome] = []
        self._arrived = asyncio.Event()

    def put(self, outcome: Outcome) -> None:
        """Add an outcome."""
        self._outcomes.append(outcome)
        self._arrived.set()

    async def take(self) -> Delta:
        """Wait for tokens and return all there are; raise the error that came instead."""
        await self._arrived.wait()
        deltas = [outcome for outcome in self._outcomes if isinstance(outcome, Delta)]
        errors = [outcome for outcome in self._outcomes if not isinstance(outcome, Delta)]
        if not deltas:
            raise errors[0]
        self._outcomes = list(errors)
        if not errors:
            self._arrived.clear()
        tokens = tuple(token for delta in deltas for token in delta.tokens)
        return Delta(tokens, deltas[-1].completion, deltas[0].prefill, deltas[0].prompt_digest)
