"""One sequence between its prompt and its last token."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from runtime.backend import Images
from runtime.budgets import Demand
from runtime.cost import PromptCost
from runtime.detokenize import TextStream
from runtime.errors import RuntimeServiceError
from runtime.parts import next_part, symbols_of
from runtime.prefixes import Symbols
from runtime.receipt import Receipt
from runtime.recording import Recording, prompt_facts
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
from runtime.sampling.choices import Scored
from runtime.sampling.matcher import Matcher
from runtime.sampling.stopping import StopRule
from runtime.vocabulary import Vocabulary

Outcome = Delta | RuntimeServiceError


def to_nobody(_outcome: Outcome) -> None:
    """The sink of a row whose outcomes nobody waits for, or gets from the step itself."""


@dataclass(slots=True, eq=False, weakref_slot=True)
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
    sink: Callable[[Outcome], None] = to_nobody
    """Receives what happens to the row; called on the event loop."""
    pictures: tuple[slice, ...] = ()
    """Where in the prompt the placeholders of each picture lie."""
    top_n: int = 0
    """Candidates to tell with each token."""
    matcher: Matcher | None = None
    """The grammar the reply must follow."""
    replayed: tuple[int, ...] = ()
    """Tokens of the reply that were told before its worker ended: computed again, and not told again."""
    prompt_digest: str = ""
    recording: Recording | None = None
    """What its receipt will tell, when that was asked for."""
    prompt_logprobs: bool = False
    """Whether to tell the log-probabilities of the prompt with the first token."""
    arrived: float = 0.0
    """When the request came; as `queued` and `started` seconds of the monotonic clock."""
    queued: float = 0.0
    started: float = 0.0
    """When its prefill began."""
    slot: int = -1
    part: slice = field(init=False)
    """The part of the prompt computed in this step, or in the last; what is before it was computed before."""
    cached: int = field(default=0, init=False)
    """Tokens of the prompt that its slot held before."""
    bucket: int = field(default=0, init=False)
    """Tokens computed for the prompt so far, padding included."""
    generated: list[int] = field(default_factory=list)
    _text: TextStream = field(init=False)
    _visible: list[str] = field(default_factory=list, init=False)
    """The pieces of the reply without special tokens: as TGI, with the space before its first word."""

    def __post_init__(self) -> None:
        self.begin(0, None)
        self._text = TextStream(self.vocabulary, self.prompt)

    @property
    def position(self) -> int:
        """Tokens the row's slot holds: the prompt and all generated tokens but the newest."""
        return len(self.prompt) + len(self.generated) - 1

    @property
    def symbols(self) -> Symbols:
        """What the row's prompt leaves in a slot."""
        return symbols_of(self.prompt, self.images, self.pictures)

    @property
    def held(self) -> Symbols:
        """What the row's slot holds after its last step."""
        return (*self.symbols, *self.generated[:-1]) if self.generated else self.symbols[: self.part.stop]

    @property
    def is_whole(self) -> bool:
        """Whether this part of the prompt is the last."""
        stop: int = self.part.stop
        return stop == len(self.prompt)

    def begin(self, offset: int, longest: int | None) -> None:
        """Set the first part, behind `offset` tokens that the slot holds already."""
        self.cached = offset
        self.part = next_part(offset, len(self.prompt), longest, self.pictures)

    def proceed(self, longest: int | None) -> None:
        """Set the next part."""
        self.part = next_part(self.part.stop, len(self.prompt), longest, self.pictures)

    def take(self, token: int) -> None:
        """Append a chosen token; raises InvalidRequest when its grammar cannot be followed any more."""
        if self.matcher is not None:
            self.matcher.advance(token)
        self.generated.append(token)

    @property
    def known(self) -> int | None:
        """The next token, where it was told before."""
        taken = len(self.generated)
        return self.replayed[taken] if taken < len(self.replayed) else None

    @property
    def has_ended(self) -> bool:
        """Whether the token taken last is the last for its id or its number; only its text may yet tell otherwise."""
        return self.stop_rule.ends(self.generated[-1], len(self.generated))

    def tell(self, logprob: float, top: Sequence[Scored] = ()) -> Delta:
        """Return what the token taken last adds to the reply; a delta without tokens where it was told before."""
        token = self.generated[-1]
        candidates = tuple([self._candidate(id, value) for id, value in top])
        text = self._text.push(token)
        is_special = self.vocabulary.is_special(token)
        if not is_special:
            self._visible.append(text)
        reason = self.stop_rule.push(token, text)
        completion = None if reason is None else self._completion(reason)
        if len(self.generated) <= len(self.replayed):
            return Delta((), completion)
        digest = self.prompt_digest if len(self.generated) == 1 else ""
        return Delta((Token(token, text, logprob, is_special, candidates),), completion, prompt_digest=digest)

    def prefill_tokens(self, logprobs: Sequence[float]) -> tuple[PrefillToken, ...]:
        """Return the prompt with the log-probability of each token but the first, which nothing precedes."""
        text = TextStream(self.vocabulary)
        told = (None, *logprobs[1:])
        return tuple(
            PrefillToken(token, text.push(token), logprob) for token, logprob in zip(self.prompt, told, strict=True)
        )

    def _candidate(self, token: int, logprob: float) -> Candidate:
        return Candidate(token, self._text.peek(token), logprob, self.vocabulary.is_special(token))

    def _completion(self, reason: FinishReason) -> Completion:
        seed = self.seed if self.sampling.draws else None
        return Completion(
            text="".join(self._visible) + self._text.pending,
            finish_reason=reason,
            generated_tokens=len(self.generated),
            prompt_tokens=len(self.prompt),
            seed=seed,
            timings=self.timings(time.monotonic()),
            cost=PromptCost.of(len(self.prompt), self.images, self.pictures, self.bucket, self.cached),
            receipt=None if self.recording is None else self._receipt(self.recording, seed, reason),
        )

    def _receipt(self, recording: Recording, seed: int | None, reason: FinishReason) -> Receipt:
        prompt = prompt_facts(self.prompt_digest, self.prompt, self.images)
        return recording.receipt(prompt, seed, self.generated, reason, len(self.replayed))

    def timings(self, now: float) -> Timings:
        """Return where its time went until `now`; until its prefill begins it all goes to the queue. Any thread."""
        started = self.started or now
        return Timings(
            validation=self.queued - self.arrived,
            queue=started - self.queued,
            inference=now - started,
            total=now - self.arrived,
        )
