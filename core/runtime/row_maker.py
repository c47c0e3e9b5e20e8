"""From a request to its row: the prompt is prepared, the grammar compiled, what is left of the context found."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol

from runtime.backend import Capacity, Images
from runtime.budgets import Demand
from runtime.errors import ContextExceeded, InvalidRequest, PromptChanged
from runtime.prompt_digest import prompt_digest
from runtime.recording import Recording
from runtime.row import Outcome, Row
from runtime.runtime import GenerateRequest, Grammar, Info, Resumption
from runtime.sampling.grammar import GrammarCompiler
from runtime.sampling.matcher import Matcher
from runtime.sampling.stopping import StopRule
from runtime.telemetry.pictures import PictureCost
from runtime.vocabulary import Vocabulary

PREPARE_THREADS: Final = 2
"""Threads that tokenize; TGI's --validation-workers default."""


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


class RowMaker:
    """Makes rows on threads of its own; lives on one event loop."""

    def __init__(
        self,
        prepare: Callable[[GenerateRequest], Prompt | Awaitable[Prompt]],
        vocabulary: Vocabulary,
        eos_ids: frozenset[int],
        info: Info,
        prepare_threads: int = PREPARE_THREADS,
        grammars: GrammarCompiler | None = None,
    ) -> None:
        """The arguments are those of `LocalRuntime`."""
        self._prepare = prepare
        self._vocabulary = vocabulary
        self._eos_ids = eos_ids
        self._info = info
        self._grammars = grammars
        self._pool = ThreadPoolExecutor(prepare_threads, thread_name_prefix="prepare")
        self._grammar_pool = ThreadPoolExecutor(1, thread_name_prefix="compile")  # so that no prompt waits for one
        self._keys = itertools.count()

    async def prompt(self, request: GenerateRequest) -> Prompt:
        """Prepare the prompt of a request."""
        prepared = await asyncio.get_running_loop().run_in_executor(self._pool, self._prepare, request)
        return await prepared if isinstance(prepared, Awaitable) else prepared

    async def row(
        self,
        request: GenerateRequest,
        prompt: Prompt,
        arrived: float,
        sink: Callable[[Outcome], None],
        capacity: Capacity,
    ) -> Row:
        """Make the row of a request that came at `arrived`; its queue begins now.

        Raises ContextExceeded, PromptChanged, and InvalidRequest for a grammar or a resumption that cannot be followed.
        """
        matcher = None if request.grammar is None else await self._compiled(request.grammar)
        length = len(prompt.tokens)
        room = _room(request, length, context_of(self._info, capacity))
        stop_rule = StopRule.of(request.stopping, room, self._eos_ids)
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
            recording=Recording.of(request, self._info, capacity.details),
            arrived=arrived,
            queued=time.monotonic(),
        )

    def close(self) -> None:
        """Give the threads back."""
        for pool in (self._pool, self._grammar_pool):
            pool.shutdown(wait=False, cancel_futures=True)
        if self._grammars is not None:
            self._grammars.close()

    async def _compiled(self, grammar: Grammar) -> Matcher:
        if self._grammars is None:
            raise InvalidRequest("`grammar` is not served with this tokenizer; leave it out")
        return await asyncio.get_running_loop().run_in_executor(self._grammar_pool, self._grammars.compile, grammar)


def context_of(info: Info, capacity: Capacity) -> int:
    """Return the tokens of prompt and reply together: the operator's limit, or less when the backend affords less."""
    return min(info.max_total_tokens, capacity.context)


def _room(request: GenerateRequest, prompt_tokens: int, total: int) -> int:
    """Return how many tokens the context has left; ContextExceeded when that is too few."""
    wanted = request.stopping.max_new_tokens or 1
    if prompt_tokens + wanted > total:
        raise ContextExceeded(
            f"`inputs` tokens + `max_new_tokens` must be <= {total}."
            f" Given: {prompt_tokens} `inputs` tokens and {wanted} `max_new_tokens`; ask for fewer"
        )
    return total - prompt_tokens


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
