"""`LocalRuntime`: the `Runtime` of the process that holds the model."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

from runtime.admission import Admission, AdmissionLimits, Room
from runtime.availability import check_ready
from runtime.backend import WarmupProgress
from runtime.budgets import Budgets
from runtime.cost import PromptCost
from runtime.engine import Engine
from runtime.errors import InvalidRequest
from runtime.leases import Leases
from runtime.mailbox import Mailbox
from runtime.parameters import check_parameters
from runtime.plugins import Hooks
from runtime.preparation import Planner
from runtime.prompt_tokens import prompt_tokens
from runtime.row import Outcome, Row, to_nobody
from runtime.row_maker import PREPARE_THREADS, Prompt, RowMaker, context_of
from runtime.runtime import (
    CachedBatch,
    Delta,
    GenerateRequest,
    Health,
    Info,
    Readiness,
    StepRequest,
    StepResult,
    Tokenization,
)
from runtime.sampling.grammar import GrammarCompiler
from runtime.telemetry.metrics import Metrics
from runtime.telemetry.requests import RequestWatch
from runtime.vocabulary import Vocabulary

Result = TypeVar("Result")


class LocalRuntime:
    """Prepares requests, hands them to the engine and streams what comes back. Lives on one event loop."""

    def __init__(
        self,
        load: Callable[[], Hooks],
        prepare: Callable[[GenerateRequest], Prompt | Awaitable[Prompt]],
        vocabulary: Vocabulary,
        eos_ids: frozenset[int],
        info: Info,
        max_stop_sequences: int,
        lease_idle_seconds: float,
        budgets: Budgets | None = None,
        prepare_threads: int = PREPARE_THREADS,
        grammars: GrammarCompiler | None = None,
        plan: Planner | None = None,
        reuse_prefixes: bool = False,
        prefill_chunk: int | None = None,
        warm_up: bool = True,
        apart: bool = False,
        release: Callable[[], None] | None = None,
        metrics: Metrics | None = None,
        max_queue: int | None = None,
        max_queue_seconds: float | None = None,
    ) -> None:
        """`load` runs on the device thread, `prepare` in a thread pool; `info` holds the limits to enforce.

        What `prepare` returns is awaited where it is not a prompt yet; `release` is called at the end, in a thread.
        `metrics` are given when others record in them too.
        Without `budgets` only the slots limit what runs together, and without `grammars` none is served. `max_queue`
        and `max_queue_seconds` bound the wait for a slot (`runtime.admission`). The rest is the engine's.
        """
        self._rows = RowMaker(prepare, vocabulary, eos_ids, info, prepare_threads, grammars)
        self._release = release
        self._metrics = metrics or metrics_of(info)
        self._vocabulary = vocabulary
        self._info = info
        self._max_stop_sequences = max_stop_sequences
        self._loop = asyncio.get_running_loop()
        limits = AdmissionLimits(info.max_concurrent_requests, max_queue, max_queue_seconds)
        self._admission = Admission(limits, self._shared_room, self._metrics)
        self.engine = Engine(
            load,
            self._deliver,
            lease_idle_seconds,
            self._metrics,
            budgets=budgets,
            plan=plan,
            reuse_prefixes=reuse_prefixes,
            prefill_chunk=prefill_chunk,
            warm_up=warm_up,
            apart=apart,
        )
        self.engine.start()

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Delta, None]:
        """Stream a reply; errors come before the first token, or in its place."""
        with RequestWatch(self._metrics, request) as watch, self._admission.place(request) as place:
            mailbox = Mailbox()
            prompt = await self._checked(request)
            watch.prepared(len(prompt.tokens), prompt.pictures)
            row = await self._row(request, prompt, watch.arrived, mailbox.put)
            self._admission.prepared(place, row, request)
            watch.submitted(row, row.stop_rule.max_new_tokens)
            self.engine.submit(row)
            try:
                self._check_ready()  # the engine may have ended while the prompt was prepared
                while True:
                    delta = await mailbox.take()
                    if not delta.tokens and delta.completion is None:
                        continue  # told before, by a worker that is gone
                    watch.delta(delta)
                    yield delta
                    if delta.completion is not None:
                        return
            finally:
                self.engine.cancel(row.key)

    async def tokenize(self, request: GenerateRequest) -> Tokenization:
        """Return the prompt's tokens, and what they would cost."""
        with self._admission.counted():
            prompt = await self._rows.prompt(request)
        length = len(prompt.tokens)
        cost = PromptCost.of(length, prompt.images, prompt.places, self.engine.bucket(length, prompt.places))
        return Tokenization(prompt_tokens(prompt.tokens, self._vocabulary, request), cost)

    async def info(self) -> Info:
        """Tell what is served and how far the warm-up is; once it is ready, what the backend affords."""
        info = replace(self._info, details={**self._info.details, **self.engine.preparation.facts})
        if self.engine.health.readiness is not Readiness.READY:
            return info
        prepared = self.engine.prepared
        return replace(
            info,
            max_batch_size=prepared.capacity.rows,
            max_total_tokens=context_of(self._info, prepared.capacity),
            max_batch_total_tokens=prepared.budgets.total_tokens,
        )

    async def metrics(self) -> bytes:
        """Return the metrics in Prometheus' text format."""
        return self._metrics.exposition()

    async def health(self) -> Health:
        """Tell whether requests are served now; answers at once, whatever the device does."""
        return self.engine.report()

    async def warmup(self) -> AsyncGenerator[WarmupProgress, None]:
        """Run the warm-up hook between two steps of normal traffic, with the plan of all shapes."""
        events: asyncio.Queue[WarmupProgress | None] = asyncio.Queue()

        def tell(progress: WarmupProgress) -> None:
            self._loop.call_soon_threadsafe(events.put_nowait, progress)

        warmed = self._ordered(lambda: self.engine.warm_up(tell))
        warmed.add_done_callback(lambda _future: events.put_nowait(None))
        while (progress := await events.get()) is not None:
            yield progress
        await warmed

    async def prefill(self, requests: Sequence[StepRequest]) -> StepResult:
        """Lease rows and compute prompts."""
        with self._admission.counted(len(requests)):
            rows = [(step.id, await self._leased_row(step.request)) for step in requests]
            return await self._on_device(lambda _hooks, leases: leases.prefill(rows))

    async def concatenate(self, batch_ids: Sequence[int]) -> CachedBatch:
        """Join leased batches."""
        return await self._on_device(lambda _hooks, leases: leases.concatenate(batch_ids))

    async def decode(self, batch_ids: Sequence[int]) -> StepResult:
        """Advance leased batches by one token."""
        return await self._on_device(lambda _hooks, leases: leases.decode(batch_ids))

    async def filter(self, batch_id: int, request_ids: Sequence[int]) -> CachedBatch:
        """Keep only these requests of a leased batch."""
        return await self._on_device(lambda _hooks, leases: leases.filter(batch_id, request_ids))

    async def release(self, batch_id: int | None) -> None:
        """Give leased rows back."""
        await self._on_device(lambda _hooks, leases: leases.release(batch_id))

    async def aclose(self) -> None:
        """Stop the engine; running requests get NotReady."""
        await asyncio.to_thread(self.engine.stop)
        self._rows.close()
        if self._release is not None:
            await asyncio.to_thread(self._release)

    async def _leased_row(self, request: GenerateRequest) -> Row:
        if request.resumption is not None:
            raise InvalidRequest("`resumption` is for whole requests; leave it out of step operations")
        arrived = time.monotonic()
        return await self._row(request, await self._checked(request), arrived)

    async def _checked(self, request: GenerateRequest) -> Prompt:
        """Return the prompt of a request that may be computed."""
        self._check_ready()
        check_parameters(request, self._max_stop_sequences)
        prompt = await self._rows.prompt(request)
        self._metrics.tell_pictures(prompt.pictures)
        return prompt

    async def _row(
        self, request: GenerateRequest, prompt: Prompt, arrived: float, sink: Callable[[Outcome], None] = to_nobody
    ) -> Row:
        return await self._rows.row(request, prompt, arrived, sink, self.engine.prepared.capacity)

    def _shared_room(self) -> Room:
        """Return what running requests share: nothing while none is served."""
        if self.engine.health.readiness is not Readiness.READY:
            return Room(0, 0)
        prepared = self.engine.prepared
        return Room(prepared.capacity.rows, prepared.budgets.total_tokens)

    def _check_ready(self) -> None:
        check_ready(self.engine.health)

    def _on_device(self, work: Callable[[Hooks, Leases], Result]) -> asyncio.Future[Result]:
        return self._ordered(lambda: self.engine.call(work))

    def _ordered(self, order: Callable[[], Future[Result]]) -> asyncio.Future[Result]:
        self._check_ready()  # so that no orders gather while the model is loaded
        future = order()
        self._check_ready()  # once more: an engine that ends answers all that came before
        return asyncio.wrap_future(future)

    def _deliver(self, outcomes: Sequence[tuple[Row, Outcome]]) -> None:
        """Carry a step's outcomes to the event loop; called on the device thread."""
        self._admission.stepped(outcomes, time.monotonic())
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(_dispatch, outcomes)


def metrics_of(info: Info) -> Metrics:
    """Make the metrics of a server with these limits."""
    return Metrics(info.max_input_tokens, info.max_total_tokens, info.max_batch_size)


def _dispatch(outcomes: Sequence[tuple[Row, Outcome]]) -> None:
    for row, outcome in outcomes:
        row.sink(outcome)
