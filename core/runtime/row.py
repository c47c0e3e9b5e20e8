"""One sequence between its prompt and its last token."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from runtime.backend import Images
from runtime.budgets import Demand
from runtime.detokenize import TextStream
from runtime.errors import RuntimeServiceError
from runtime.runtime import (
    Candidate,
    Completion,
    Delta,
    FinishReason,
    PrefillToken,
    SamplingParameters,
    Timings,
    Token,
)
from runtime.sampling.matcher import Matcher
from runtime.sampling.sampler import Scored
from runtime.sampling.stopping import StopRule

Outcome = Delta | RuntimeServiceError


class Vocabulary(Protocol):
    """What a row needs of the tokenizer."""

    def decode(self, ids: Sequence[int], skip_special_tokens: bool) -> str: ...

    def is_special(self, token: int) -> bool: ...


@dataclass(slots=True, eq=False)
class Row:
    """The state of one sequence; touched by the device thread only, once it is submitted."""

    key: int
    """Unique in the engine."""
    prompt: tuple[int, ...]
    images: Images | None
    demand: Demand
    sampling: SamplingParameters
    seed: int
    """The request's, or drawn for it."""
    stop_rule: StopRule
    vocabulary: Vocabulary
    sink: Callable[[Outcome], None]
    """Receives what happens to the row; called on the event loop."""
    top_n: int = 0
    """Candidates to tell with each token."""
    matcher: Matcher | None = None
    """The grammar the reply must follow."""
    prompt_logprobs: bool = False
    """Whether to tell the log-probabilities of the prompt with the first token."""
    arrived: float = 0.0
    """When the request came; as `queued` and `started` seconds of the monotonic clock."""
    queued: float = 0.0
    started: float = 0.0
    """When its prefill began."""
    slot: int = -1
    generated: list[int] = field(default_factory=list)
    _text: TextStream = field(init=False)
    _visible: str = field(default="", init=False)
    """The reply without special tokens: as TGI, with the space before its first word."""

    def __post_init__(self) -> None:
        self._text = TextStream(lambda ids: self.vocabulary.decode(ids, skip_special_tokens=False), self.prompt)

    @property
    def position(self) -> int:
        """Tokens the row's slot holds: the prompt and all generated tokens but the newest."""
        return len(self.prompt) + len(self.generated) - 1

    def push(self, token: int, logprob: float, top: Sequence[Scored] = ()) -> Delta:
        """Append a chosen token; raises InvalidRequest when its grammar cannot be followed any more."""
        if self.matcher is not None:
            self.matcher.advance(token)
        candidates = tuple(self._candidate(id, value) for id, value in top)
        self.generated.append(token)
        text = self._text.push(token)
        is_special = self.vocabulary.is_special(token)
        self._visible += "" if is_special else text
        reason = self.stop_rule.push(token, text)
        tokens = (Token(token, text, logprob, is_special, candidates),)
        return Delta(tokens, None if reason is None else self._completion(reason))

    def prefill_tokens(self, logprobs: Sequence[float]) -> tuple[PrefillToken, ...]:
        """Return the prompt with the log-probability of each token but the first, which nothing precedes."""
        text = TextStream(lambda ids: self.vocabulary.decode(ids, skip_special_tokens=False))
        told = (None, *logprobs[1:])
        return tuple(
            PrefillToken(token, text.push(token), logprob) for token, logprob in zip(self.prompt, told, strict=True)
        )

    def _candidate(self, token: int, logprob: float) -> Candidate:
        return Candidate(token, self._text.peek(token), logprob, self.vocabulary.is_special(token))

    def _completion(self, reason: FinishReason) -> Completion:
        return Completion(
            text=self._visible + self._text.pending,
            finish_reason=reason,
            generated_tokens=len(self.generated),
            prompt_tokens=len(self.prompt),
            seed=self.seed if self.sampling.draws else None,
            timings=self._timings(time.monotonic()),
        )

    def _timings(self, now: float) -> Timings:
        return Timings(
            validation=self.queued - self.arrived,
            queue=self.started - self.queued,
            inference=now - self.started,
            total=now - self.arrived,
        )
