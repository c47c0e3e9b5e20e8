"""`LocalRuntime`: the `Runtime` of the process that holds the model."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Final, Protocol, TypeVar

from runtime.admission import Admission, AdmissionLimits, Room
from runtime.availability import check_ready
from runtime.backend import Images, WarmupProgress
from runtime.budgets import Budgets, Demand
from runtime.cost import PromptCost
from runtime.engine import Engine
from runtime.errors import ContextExceeded, InvalidRequest, PromptChanged
from runtime.leases import Leases
from runtime.mailbox import Mailbox
from runtime.parameters import check_parameters
from runtime.plugins import Hooks
from runtime.preparation import Planner
from runtime.prompt_digest import prompt_digest
from runtime.prompt_tokens import prompt_tokens
from runtime.recording import Recording
from runtime.row import Outcome, Row, to_nobody
from runtime.runtime import (
    CachedBatch,
    Delta,
    GenerateRequest,
    Grammar,
    Health,
    Info,
    Readiness,
    Resumption,
    StepRequest,
    StepResult,
    Tokenization,
)
from runtime.sampling.grammar import GrammarCompiler
from runtime.sampling.matcher import Matcher
from runtime.sampling.stopping import StopRule
from runtime.telemetry.metrics import Metrics
from runtime.telemetry.pictures import PictureCost
from runtime.telemetry.requests import RequestWatch
from runtime.vocabulary import Vocabulary

PREPARE_THREADS: Final = 2
"""Threads that tokenize and decode pictures; TGI's --validation-workers default."""

Result = TypeVar("Result")


class Prompt(Protocol):
    """A prepared prompt."""

    @property
    def tokens(self) -> tuple[int, ...]: ...

    @property
    def images(self) -> Images | None: ...

    @property
    def pictures(self) -> Sequence[PictureCost]: ...

    @property
    def places(self) -> tuple[slice, ...]: ...


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
        self._prepare = prepare
        self._release = release
        self._grammars = grammars
        self._metrics = metrics or metrics_of(info)
        self._vocabulary = vocabulary
        self._eos_ids = eos_ids
        self._info = info
        self._max_stop_sequences = max_stop_sequences
        self._loop = asyncio.get_running_loop()
        self._pool = ThreadPoolExecutor(prepare_threads, thread_name_prefix="prepare")
        self._grammar_pool = ThreadPoolExecutor(1, thread_name_prefix="compile")  # so that no prompt waits for one
        self._keys = itertools.count()
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
            row = await self._row(request, prompt, mailbox.put, watch.arrived)
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
            prompt = await self._prepared(request)
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
            max_total_tokens=self._context,
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
        for pool in (self._pool, self._grammar_pool):
            pool.shutdown(wait=False, cancel_futures=True)
        if self._grammars is not None:
            self._grammars.close()
        if self._release is not None:
            await asyncio.to_thread(self._release)

    async def _leased_row(self, request: GenerateRequest) -> Row:
        if request.resumption is not None:
            raise InvalidRequest("`resumption` is for whole requests; leave it out of step operations")
        arrived = time.monotonic()
        return await self._row(request, await self._checked(request), to_nobody, arrived)

    async def _checked(self, request: GenerateRequest) -> Prompt:
        """Return the prompt of a request that may be computed."""
        self._check_ready()
        check_parameters(request, self._max_stop_sequences)
        prompt = await self._prepared(request)
        self._metrics.tell_pictures(prompt.pictures)
        return prompt

    async def _row(
        self, request: GenerateRequest, prompt: Prompt, sink: Callable[[Outcome], None], arrived: float
    ) -> Row:
        matcher = None if request.grammar is None else await self._compiled(request.grammar)
        length = len(prompt.tokens)
        stop_rule = StopRule.of(request.stopping, self._room(request, length), self._eos_ids)
        digest = prompt_digest(prompt.tokens, prompt.images)
        told = () if request.resumption is None else _checked_resumption(request.resumption, digest, stop_rule)
        return Row(
            key=next(self._keys),
            prompt=prompt.tokens,
            images=prompt.images,
            demand=Demand(prefill_tokens=length, total_tokens=length + stop_rule.max_new_tokens),
            sampling=request.sampling,
            seed=secrets.randbits(64) if request.sampling.seed is None else request.sampling.seed,
            stop_rule=stop_rule,
            vocabulary=self._vocabulary,
            sink=sink,
            pictures=prompt.places,
            top_n=request.top_n_tokens,
            matcher=matcher,
            prompt_logprobs=request.prompt_logprobs and not told,
            replayed=told,
            prompt_digest=digest,
            recording=Recording.of(request, self._info, self.engine.prepared.capacity.details),
            arrived=arrived,
            queued=time.monotonic(),
        )

    async def _compiled(self, grammar: Grammar) -> Matcher:
        if self._grammars is None:
            raise InvalidRequest("`grammar` is not served with this tokenizer; leave it out")
        return await self._loop.run_in_executor(self._grammar_pool, self._grammars.compile, grammar)

    async def _prepared(self, request: GenerateRequest) -> Prompt:
        prepared = await self._loop.run_in_executor(self._pool, self._prepare, request)
        return await prepared if isinstance(prepared, Awaitable) else prepared

    def _room(self, request: GenerateRequest, prompt_tokens: int) -> int:
        """Return how many tokens the context has left; ContextExceeded when that is too few."""
        total = self._context
        wanted = request.stopping.max_new_tokens or 1
        if prompt_tokens + wanted > total:
            raise ContextExceeded(
                f"`inputs` tokens + `max_new_tokens` must be <= {total}."
                f" Given: {prompt_tokens} `inputs` tokens and {wanted} `max_new_tokens`; ask for fewer"
            )
        return total - prompt_tokens

    @property
    def _context(self) -> int:
        """Tokens of prompt and reply together: the operator's limit, or less when the backend affords less."""
        return min(self._info.max_total_tokens, self.engine.prepared.capacity.context)

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


def _checked_resumption(resumption: Resumption, digest: str, stop_rule: StopRule) -> tuple[int, ...]:
    """Return the tokens told before; raises InvalidRequest when the reply cannot go on behind them."""
    if resumption.prompt_digest not in ("", digest):
        raise PromptChanged(
            "the reply broke off with a failure of the server and cannot go on, for the picture at an address is not "
            "the one it was; send the request again"
        )
    if len(resumption.tokens) >= stop_rule.max_new_tokens:
        raise InvalidRequest(
            f"`resumption` has {len(resumption.tokens)} tokens, and `max_new_tokens` is {stop_rule.max_new_tokens}: "
            "nothing is left to generate"
        )
    return resumption.tokens
