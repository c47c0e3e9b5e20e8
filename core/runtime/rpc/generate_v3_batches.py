"""Step operations on batches whose ids the caller chooses, as TGI's router does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Final

from runtime.errors import InvalidRequest, UnknownBatch
from runtime.runtime import CachedBatch, Runtime, StepRequest, StepResult

MOST_BATCHES: Final = 1024
"""Ids remembered; far more than there are rows, so the oldest of more stands for a lease that has expired."""


class RoutedBatches:
    """Which lease stands behind each id that the caller chose. One caller at a time; lives on one event loop.

    `max_tokens` of its batches is what the rows may come to hold, each charged with the whole context: the number that
    TGI's router takes off its budget before it admits more.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._leases: dict[int, CachedBatch] = {}
        """By the caller's id, the last used last."""
        self._context = 0
        """Tokens a row may come to hold; known from the first prefill on."""

    async def prefill(self, batch_id: int, requests: Sequence[StepRequest]) -> StepResult:
        """Lease a row per request under this id; a batch of that id is dropped, as TGI's cache does it."""
        await self.clear(batch_id)
        self._context = (await self._runtime.info()).max_total_tokens
        return self._remembered(batch_id, await self._runtime.prefill(requests))

    async def decode(self, batch_ids: Sequence[int]) -> StepResult:
        """Advance a batch, or several joined under the first id, by one token."""
        leases = [self._named("batches", batch_id) for batch_id in batch_ids]
        with _told_of("batches", batch_ids):
            result = await self._runtime.decode([lease.id for lease in leases])
        for batch_id in batch_ids:
            self._leases.pop(batch_id, None)
        return self._remembered(batch_ids[0], result)

    async def filter(self, batch_id: int, request_ids: Sequence[int]) -> CachedBatch:
        """Keep only these requests."""
        lease = self._named("batch_id", batch_id)
        for request_id in request_ids:
            if request_id not in lease.request_ids:
                raise InvalidRequest(
                    f"`request_ids`: there is no request {request_id} in batch {batch_id}, which holds"
                    f" {list(lease.request_ids)}; those that ended are gone"
                )
        if not request_ids:
            raise InvalidRequest("`request_ids` must name the requests to keep; to keep none, clear the batch")
        with _told_of("batch_id", [batch_id]):
            return self._kept(batch_id, await self._runtime.filter(lease.id, request_ids))

    async def clear(self, batch_id: int) -> None:
        """Give a batch back; nothing happens when it is gone already, for a router clears what has failed."""
        lease = self._leases.pop(batch_id, None)
        if lease is not None:
            with suppress(UnknownBatch):
                await self._runtime.release(lease.id)

    async def clear_all(self) -> None:
        """Give every batch back that was leased here."""
        for batch_id in list(self._leases):
            await self.clear(batch_id)

    def _remembered(self, batch_id: int, result: StepResult) -> StepResult:
        return result if result.batch is None else replace(result, batch=self._kept(batch_id, result.batch))

    def _kept(self, batch_id: int, lease: CachedBatch) -> CachedBatch:
        self._leases.pop(batch_id, None)
        self._leases[batch_id] = lease
        while len(self._leases) > MOST_BATCHES:
            del self._leases[next(iter(self._leases))]
        return CachedBatch(batch_id, lease.request_ids, len(lease.request_ids) * self._context)

    def _named(self, field: str, batch_id: int) -> CachedBatch:
        if batch_id not in self._leases:
            raise UnknownBatch(f"`{field}`: there is no batch {batch_id}; it ended or was cleared")
        return self._leases[batch_id]


@contextmanager
def _told_of(field: str, batch_ids: Sequence[int]) -> Iterator[None]:
    """Name the caller's ids when a lease behind them is gone."""
    try:
        yield
    except UnknownBatch:
        raise UnknownBatch(
            f"`{field}`: the lease behind {list(batch_ids)} expired, or the batch failed; prefill the requests again"
        ) from None
