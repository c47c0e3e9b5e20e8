"""Replies that outlive their worker.

A gateway keeps of each running reply the request, its seed and the tokens told. When the worker ends, or a step fails,
the request is sent again with them: the prompt is computed anew, then the tokens told are, step by step and in the
shapes they had, so that what follows is what would have followed. The client sees a pause.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Final

from runtime.availability import Availability
from runtime.errors import BackendError, InvalidRequest, NotReady, Quarantined
from runtime.remote import RemoteRuntime
from runtime.runtime import Completion, Delta, GenerateRequest, Health, Readiness, Resumption
from runtime.telemetry.gateway import GatewayMetrics

MOST_FAILURES: Final = 3
"""Failures in a row, without a new token between, after which a request is not tried again."""
SUSPECT_AFTER: Final = 2
"""Failures in a row after which a request is tried beside no other such."""
RESUME_SECONDS: Final = 900.0
"""For a worker to serve again: one of a large model loads and warms up for minutes."""

Attempt = Callable[[GenerateRequest], AsyncGenerator[Delta, None]]

log = logging.getLogger(__name__)


class ResumingRuntime(RemoteRuntime):
    """The `Runtime` of a gateway: a client of whichever worker there is."""

    def __init__(self, target: str, availability: Availability, metrics: GatewayMetrics) -> None:
        """`target` is the address that all workers take, one after another."""
        super().__init__(target)
        self._availability = availability
        self._gateway_metrics = metrics
        self._resumer = Resumer(availability, metrics)

    def _replies(self, request: GenerateRequest) -> AsyncGenerator[Delta, None]:
        return self._resumer.generate(request, super()._replies)

    async def health(self) -> Health:
        """Tell what was seen last; answers at once, whatever the worker does."""
        return self._availability.health

    async def metrics(self) -> bytes:
        """Tell the worker's metrics, when there is one, and the gateway's."""
        own = self._gateway_metrics.exposition()
        try:
            return await super().metrics() + own
        except NotReady:
            return own


class Resumer:
    """Runs requests until they are answered, however many workers that takes; lives on one event loop."""

    def __init__(self, availability: Availability, metrics: GatewayMetrics) -> None:
        self._availability = availability
        self._metrics = metrics
        self._alone = asyncio.Lock()
        """Held by the one suspect that is tried."""

    async def generate(self, request: GenerateRequest, attempt: Attempt) -> AsyncGenerator[Delta, None]:
        """Stream a reply; `attempt` asks the worker there is.

        Raises NotReady when no worker serves, at first or for too long, and Quarantined for a request that fails
        whatever worker computes it.
        """
        if request.resumption is not None:
            raise InvalidRequest("`resumption` is the server's own; leave it out")
        self._availability.check_ready()
        reply, turn = _Reply(_seeded(request)), _Turn(self._alone)
        try:
            while True:
                try:
                    async with aclosing(attempt(reply.request)) as deltas:
                        async for delta in deltas:
                            turn.give()
                            yield reply.took(delta)
                            if delta.completion is not None:
                                return
                    raise NotReady("the worker ended the reply too soon")
                except (NotReady, BackendError) as error:
                    turn.give()
                    await self._failed(reply, turn, error)
        finally:
            turn.give()

    async def _failed(self, reply: _Reply, turn: _Turn, error: NotReady | BackendError) -> None:
        """Wait until the request can be tried again; raise NotReady or Quarantined when it cannot be."""
        reply.broke_off()
        if isinstance(error, NotReady) and self._availability.is_ready:  # who watches the worker does not know yet
            self._availability.tell(Health(Readiness.LOADING, "the worker is gone; it is being restarted"))
        if reply.failures >= MOST_FAILURES:
            self._metrics.quarantined.inc()
            log.error("a request is given up: it failed %d times without a token between", reply.failures)
            raise Quarantined(
                f"this request failed {reply.failures} times, the last beside no other that had failed, and is not "
                f"tried again; the last reason: {error.message}"
            ) from error
        log.warning("a reply broke off behind %d tokens (%s); it goes on", len(reply.told), type(error).__name__)
        if reply.failures >= SUSPECT_AFTER:
            await turn.take()  # before the worker is waited for, as the suspect before may take it along
        try:
            await asyncio.wait_for(self._availability.ready(), RESUME_SECONDS)
        except asyncio.TimeoutError:
            raise error from None
        self._metrics.resumed.inc()
        self._metrics.replayed_tokens.inc(len(reply.told))


@dataclass(slots=True)
class _Reply:
    """How far a reply is."""

    request: GenerateRequest
    """What a worker is asked."""
    began: float = field(default_factory=time.monotonic)
    told: list[int] = field(default_factory=list)
    digest: str = ""
    failures: int = 0
    """In a row, without a new token between."""

    def broke_off(self) -> None:
        """Note a failure: the next worker goes on behind what was told."""
        self.failures += 1
        self.request = replace(self.request, resumption=Resumption(tuple(self.told), self.digest))

    def took(self, delta: Delta) -> Delta:
        """Note what the client is told; returns it, with the times of the whole reply."""
        self.failures = 0
        self.digest = self.digest or delta.prompt_digest
        self.told += [token.id for token in delta.tokens]
        if delta.completion is None or self.request.resumption is None:
            return delta
        return replace(delta, completion=self._whole(delta.completion))

    def _whole(self, completion: Completion) -> Completion:
        timings = completion.timings
        if timings is None:
            return completion
        total = time.monotonic() - self.began
        inference = total - timings.validation - timings.queue
        return replace(completion, timings=replace(timings, inference=inference, total=total))


class _Turn:
    """One suspect's time with the lock."""

    def __init__(self, lock: asyncio.Lock) -> None:
        self._lock = lock
        self._is_held = False

    async def take(self) -> None:
        await self._lock.acquire()
        self._is_held = True

    def give(self) -> None:
        """Let the next suspect try; may be called again."""
        if self._is_held:
            self._is_held = False
            self._lock.release()


def _seeded(request: GenerateRequest) -> GenerateRequest:
    """Draw the seed here, where it outlives the worker."""
    if not request.sampling.draws or request.sampling.seed is not None:
        return request
    return replace(request, sampling=replace(request.sampling, seed=secrets.randbits(64)))
