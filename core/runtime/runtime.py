"""The one object front ends hold: the `Runtime` protocol, its requests and its events.

HTTP and gRPC are written against it; `runtime.local.LocalRuntime` implements it in the worker and
`runtime.remote.RemoteRuntime` in the gateway, over gRPC. All methods are called on the event loop.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from runtime.backend import WarmupProgress
from runtime.cost import PromptCost
from runtime.receipt import Receipt


@dataclass(frozen=True, slots=True)
class TextPart:
    """Text of the user; a placeholder typed in it stays text."""

    text: str


@dataclass(frozen=True, slots=True)
class TokensPart:
    """Token ids, taken as they are."""

    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ImagePart:
    """An encoded picture: PNG, JPEG, WebP or GIF."""

    data: bytes


@dataclass(frozen=True, slots=True)
class ImageUrlPart:
    """A picture by reference: a `data:` URI, or an http(s) address that the worker fetches or refuses."""

    url: str


Part = TextPart | TokensPart | ImagePart | ImageUrlPart


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: str
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class SamplingParameters:
    """How the next token is chosen; neutral values by default."""

    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    """Candidates kept; 0 keeps all."""
    top_p: float = 1.0
    """Probability mass kept; 1 keeps all."""
    typical_p: float = 1.0
    """Probability mass of the most typical candidates kept; 1 keeps all."""
    repetition_penalty: float = 1.0
    """Divides the score, or multiplies a negative one, of every id the prompt or the reply holds; 1 is neutral."""
    frequency_penalty: float = 0.0
    """OpenAI's: taken off the score of an id once for each time the reply holds it."""
    presence_penalty: float = 0.0
    """OpenAI's: taken off the score of every id the reply holds."""
    frequency_share: float = 0.0
    """TGI's `frequency_penalty`: times an id's share of all tokens of prompt and reply, taken off its score."""
    watermark: bool = False
    seed: int | None = None
    """0 to 2**64-1; drawn by the worker when None."""

    @property
    def draws(self) -> bool:
        """Whether chance decides: asked for, or implied by a parameter that only sampling uses, as in TGI."""
        narrowed = self.top_k > 0 or self.top_p < 1 or self.typical_p < 1
        return self.do_sample or self.temperature != 1 or narrowed


@dataclass(frozen=True, slots=True)
class StoppingParameters:
    """When a reply ends."""

    max_new_tokens: int | None = None
    """None fills the context."""
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False


class GrammarKind(Enum):
    """How a grammar is written."""

    JSON_SCHEMA = "json"
    REGEX = "regex"


@dataclass(frozen=True, slots=True)
class Grammar:
    """A form the reply must have."""

    kind: GrammarKind
    value: str
    """A JSON schema as text, or a regular expression."""


@dataclass(frozen=True, slots=True)
class Resumption:
    """A reply that began in a worker that is gone: how far it was told."""

    tokens: tuple[int, ...] = ()
    """Ids told, special ones included; they are computed again and not told again."""
    prompt_digest: str = ""
    """Of the prompt they follow, as the first `Delta` told it; not compared when empty."""


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """A prompt, as parts or as a conversation for the model's chat template, and what to do with it."""

    parts: tuple[Part, ...] = ()
    messages: tuple[Message, ...] = ()
    """When given, `parts` must be empty."""
    sampling: SamplingParameters = field(default_factory=SamplingParameters)
    stopping: StoppingParameters = field(default_factory=StoppingParameters)
    add_special_tokens: bool = True
    """Whether the tokenizer adds its BOS; a chat template decides for itself."""
    truncate: int | None = None
    """Tokens of the prompt to keep, its last; only text is left out, never a picture."""
    grammar: Grammar | None = None
    top_n_tokens: int = 0
    """Most probable candidates to tell with each token."""
    prompt_logprobs: bool = False
    """Whether to tell the log-probability of each token of the prompt."""
    receipt: bool = False
    """Whether to tell how the reply came about."""
    resumption: Resumption | None = None
    """Where the reply goes on, which needs the seed it began with; it waits in no line a second time."""
    deadline: float | None = None
    """When the caller stops to wait, on the monotonic clock of this process."""


class FinishReason(Enum):
    """Why a reply ended; the values are TGI's names."""

    LENGTH = "length"
    EOS_TOKEN = "eos_token"  # noqa: S105
    STOP_SEQUENCE = "stop_sequence"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A token that might have been chosen."""

    id: int
    text: str
    logprob: float
    special: bool


@dataclass(frozen=True, slots=True)
class Token:
    """One generated token."""

    id: int
    text: str
    """What this token adds to the text: empty while a character is incomplete."""
    logprob: float
    special: bool
    top: tuple[Candidate, ...] = ()
    """The most probable candidates, best first; ties in the order of ids."""


@dataclass(frozen=True, slots=True)
class PrefillToken:
    """One token of a prompt with what the model thought of it."""

    id: int
    text: str
    logprob: float | None
    """None for the first, which nothing precedes."""


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the time of a request went, seconds."""

    validation: float
    """From arrival to the queue."""
    queue: float
    inference: float
    """From the prompt's computation to the last token."""
    total: float
    """From arrival to the last token."""


@dataclass(frozen=True, slots=True)
class Completion:
    """The end of a reply."""

    text: str
    """The whole reply without special tokens."""
    finish_reason: FinishReason
    generated_tokens: int
    prompt_tokens: int
    """Tokens of the prompt, placeholders of pictures included."""
    seed: int | None
    """The seed used, None for a greedy reply."""
    timings: Timings | None = None
    cost: PromptCost = field(default_factory=PromptCost)
    receipt: Receipt | None = None
    """How it came about, when it was asked for."""


@dataclass(frozen=True, slots=True)
class Delta:
    """An event of a reply: one or more new tokens, and the completion with the last of them."""

    tokens: tuple[Token, ...]
    completion: Completion | None = None
    prefill: tuple[PrefillToken, ...] = ()
    """The prompt, with the first token, when it was asked for."""
    prompt_digest: str = ""
    """Of tokens and pictures of the prompt (`runtime.prompt_digest`), with the first token."""


@dataclass(frozen=True, slots=True)
class PromptToken:
    """One token of a prompt, for `tokenize`."""

    id: int
    text: str
    """What it adds to the text, so that the texts of all tokens make the prompt."""
    special: bool
    start: int | None = None
    """Where it stands in the text, characters; None for a token that is no text of the prompt."""
    stop: int | None = None
    """The character after its last."""


@dataclass(frozen=True, slots=True)
class Tokenization:
    """A prompt as the model reads it."""

    tokens: tuple[PromptToken, ...]
    """Placeholders of pictures included."""
    cost: PromptCost
    """What it would take to compute it alone and from its start; the bucket is not known before the model serves."""


@dataclass(frozen=True, slots=True)
class Info:
    """Facts about what is served."""

    model_id: str
    model_digest: str
    architecture: str
    dtype: str
    """The dtype the weights are stored in."""
    backend: str
    backend_version: str
    contract: str
    device: str
    """Kind of device, as the backend's probe tells."""
    version: str
    max_input_tokens: int
    max_total_tokens: int
    max_batch_size: int
    max_concurrent_requests: int
    max_batch_prefill_tokens: int
    max_batch_total_tokens: int
    waiting_served_ratio: float
    max_waiting_tokens: int
    validation_workers: int
    vision: bool
    details: Mapping[str, str] = field(default_factory=dict)


class Readiness(Enum):
    """State of a worker."""

    LOADING = "loading"
    WARMING = "warming"
    """Loaded, and running every shape once before the first request; `Health.message` tells how far it is."""
    READY = "ready"
    STOPPING = "stopping"
    """Running replies end; new requests are refused."""
    FAILED = "failed"
    """Loaded or not, it does not serve: it does not answer, is stuck, or its device fails."""


@dataclass(frozen=True, slots=True)
class Health:
    """Whether requests are served now."""

    readiness: Readiness
    message: str = ""
    """What it is doing, or why it failed."""
    busy_seconds: float = 0.0
    """How long the device thread has been in the same step, command or shape; 0 between two, and with nothing to do."""
    seconds_left: float | None = None
    """Until a warm-up is done, as far as that is known."""


@dataclass(frozen=True, slots=True)
class StepRequest:
    """A request of a step operation; `id` is the caller's and unique in its batch."""

    id: int
    request: GenerateRequest


@dataclass(frozen=True, slots=True)
class CachedBatch:
    """Rows leased by step operations."""

    id: int
    request_ids: tuple[int, ...]
    max_tokens: int
    """Tokens the rows hold now, prompts and outputs together."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """The answer of one step: an event per live request, and the batch unless all are finished."""

    deltas: tuple[tuple[int, Delta], ...]
    """(request id, event) pairs."""
    batch: CachedBatch | None
    forward_ns: int
    """Time in the backend, nanoseconds."""
    decode_ns: int
    """Time in sampling and detokenizing, nanoseconds."""
    total_ns: int


class Runtime(Protocol):
    """What a front end may do. Errors are those of `runtime.errors`."""

    def generate(self, request: GenerateRequest) -> AsyncGenerator[Delta, None]:
        """Stream a reply. Closing the iterator, or cancelling its task, frees the slot at the next step."""
        ...

    async def tokenize(self, request: GenerateRequest) -> Tokenization:
        """Return the prompt's tokens and what they would cost; the model need not serve yet."""
        ...

    async def info(self) -> Info: ...

    async def health(self) -> Health: ...

    async def metrics(self) -> bytes:
        """Return the metrics of the worker in Prometheus' text format."""
        ...

    def warmup(self) -> AsyncGenerator[WarmupProgress, None]:
        """Run the backend's warm-up hook once more, for every shape of its plan, and stream its progress."""
        ...

    async def prefill(self, requests: Sequence[StepRequest]) -> StepResult:
        """Lease a slot per request, compute the prompts and return the first tokens.

        Raises Overloaded when there are fewer free slots than requests.
        """
        ...

    async def concatenate(self, batch_ids: Sequence[int]) -> CachedBatch:
        """Join finished prefills into one decoding batch that keeps the first id."""
        ...

    async def decode(self, batch_ids: Sequence[int]) -> StepResult:
        """Advance a batch by one token; several batches are concatenated first."""
        ...

    async def filter(self, batch_id: int, request_ids: Sequence[int]) -> CachedBatch:
        """Keep only these requests of a batch."""
        ...

    async def release(self, batch_id: int | None) -> None:
        """Give back the rows of a batch, or of all leased batches when None."""
        ...

    async def aclose(self) -> None: ...
