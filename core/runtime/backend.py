"""The types that cross the plugin boundary, the `Backend` protocol and the version of the contract.

Above this line core reasons with requests, rows, shapes, text and pictures; below it a plugin owns one loaded
model, its KV cache and its graphs. Rows state facts (length, position, slot), never an alignment.

All tensors of a batch are made by core on the CPU; a backend answers with tensors on its own device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Generic, Protocol, TypeAlias, TypeVar

import torch

from runtime.knobs import Knob as Knob  # for plugin authors: what `BackendSpec.options` holds
from runtime.knobs import Value as Value

CONTRACT_VERSION: Final = "1.1"
"""Version of this module and of `runtime.hookspecs`: a new optional argument or hook raises the minor number,
a changed meaning the major one."""

State = TypeVar("State")


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether a backend can run on this machine, and why not."""

    ok: bool
    reason: str = ""
    """One sentence for the operator; when a package is missing, the install command."""
    details: Mapping[str, str] = field(default_factory=dict)
    """Facts worth showing: versions, device names."""


@dataclass(frozen=True, slots=True)
class ImageGeometry:
    """How a LLaVA-NeXT model cuts a picture into tiles and tiles into feature rows."""

    tile: int
    """Side of a square tile, pixels."""
    patch: int
    """Side of a square patch, pixels; a tile gives (tile // patch) ** 2 features."""
    pinpoints: tuple[tuple[int, int], ...]
    """Canvas sizes (height, width) in pixels a picture may be fitted to, in the order of the model's config."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    rescale: float
    """Factor that takes a byte to the range `mean` and `std` are stated in."""
    resample: int
    """Pillow's number of the resampling filter."""


@dataclass(frozen=True, slots=True)
class DecoderGeometry:
    """The numbers inside a Mistral or Llama decoder."""

    head_dim: int
    mlp: int
    """Width of the gated MLP."""
    norm_epsilon: float
    rope_theta: float
    rope_scaling: str | None
    """Kind of the rotary embedding's scaling (linear, dynamic, yarn, llama3, ...); None for the plain one."""
    activation: str
    """Of the MLP, by transformers' name: silu."""
    attention_bias: bool
    mlp_bias: bool
    tied: bool
    """Whether the head is the embedding table."""


@dataclass(frozen=True, slots=True)
class VisionGeometry:
    """The numbers inside a CLIP vision tower and the projector behind it."""

    layers: int
    hidden: int
    heads: int
    mlp: int
    norm_epsilon: float
    activation: str
    """Of the tower's MLP, by transformers' name: quick_gelu."""
    feature_layers: tuple[int, ...]
    """Which hidden states are the features, side by side: 0 to `layers`, 0 being the embeddings."""
    projector_activation: str
    projector_bias: bool


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model folder, read with an allow-list before any weight is touched."""

    path: Path
    architecture: str
    """Class name in the model's config, e.g. LlavaNextForConditionalGeneration."""
    dtype: str
    """The dtype the weights are stored in, a torch name without the module: bfloat16."""
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    vocabulary: int
    """Rows of the embedding table, and columns of the logits."""
    max_positions: int
    eos_ids: frozenset[int]
    image_token_id: int | None
    """The placeholder in `PrefillBatch.tokens`: one per feature row. It never comes from a user's text."""
    images: ImageGeometry | None
    """None for a text model."""
    decoder: DecoderGeometry
    vision: VisionGeometry | None
    """None for a text model."""
    digest: str
    """Hex digest of configs and weights, to tell two models apart."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the operator asks for and the backend must afford."""

    rows: int
    """Slots: sequences that decode together."""
    context: int
    """Tokens per slot, prompt and output together."""
    prefill_rows: int
    """Prompts computed in one prefill."""
    prefill_tokens: int
    """Tokens of the longest prompt."""
    options: Mapping[str, Value] = field(default_factory=dict)
    """The value of every option the backend declares, by its name."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a loaded backend affords; never more than the `Limits` it was loaded with."""

    rows: int
    context: int
    resumes: bool = False
    """Whether a prefill may continue what its slot holds (`PrefillBatch.offsets`). Then `prefill` writes to the slots,
    and each keeps what it holds, also after it is released, until a prefill or a decode step writes to it."""
    asynchronous: bool = False
    """Whether `decode` returns before the device is done. Then the text of a step is told while the device computes
    the next one."""
    details: Mapping[str, str] = field(default_factory=dict)
    """Facts worth showing beside those of `Availability.details`, known once the model is loaded."""


@dataclass(frozen=True, slots=True)
class PrefillShape:
    """The padded size of a prefill."""

    rows: int
    length: int
    """Tokens per row that are computed."""
    cached: int = 0
    """Tokens that the slot of any row may hold already: the longest offset; 0 for whole prompts."""


@dataclass(frozen=True, slots=True)
class DecodeShape:
    """The padded size of a decode step."""

    rows: int
    context: int
    """Tokens any row may hold, the new one included."""


@dataclass(frozen=True, slots=True)
class VisionShape:
    """The size of one picture for the vision tower; pictures are encoded one at a time, whatever their prefill."""

    tiles: int
    """Base tile included."""


Shape: TypeAlias = PrefillShape | DecodeShape | VisionShape


@dataclass(frozen=True, slots=True)
class ShapePlan:
    """Every shape a backend will ever see; empty for a backend that takes any shape."""

    prefill: tuple[PrefillShape, ...] = ()
    decode: tuple[DecodeShape, ...] = ()
    vision: tuple[VisionShape, ...] = ()


@dataclass(frozen=True, slots=True)
class WarmupProgress:
    """One warmed shape."""

    done: int
    total: int
    shape: Shape
    seconds: float


@dataclass(frozen=True, slots=True)
class Images:
    """The pictures of one row, in the order of their placeholders."""

    tiles: torch.Tensor  # float32 [sum(counts), 3, tile, tile], cpu; the base tile of each picture first
    counts: tuple[int, ...]
    """Tiles per picture."""
    sizes: tuple[tuple[int, int], ...]
    """Original (height, width) per picture, pixels."""
    digests: tuple[bytes, ...]
    """32 bytes per picture over its decoded pixels, size and mode."""


@dataclass(frozen=True, slots=True)
class PrefillBatch:
    """Prompts to compute, right-padded to `shape`."""

    shape: PrefillShape
    tokens: torch.Tensor  # int64 [rows, length], cpu; anything beyond a row's length is padding
    lengths: torch.Tensor  # int64 [rows], cpu; 0 for a padding row
    offsets: torch.Tensor  # int64 [rows], cpu; tokens the row's slot holds already, 0 for a whole prompt
    slots: torch.Tensor  # int64 [rows], cpu; the slot leased for each row, -1 for a padding row
    images: tuple[Images | None, ...]
    """One entry per row; None for a row without pictures."""
    prompt_logprobs: bool = False
    """Whether the log-probabilities of the prompts' own tokens are wanted."""


@dataclass(frozen=True, slots=True)
class Prefix(Generic[State]):
    """The state of a finished prefill; opaque to core, dropped when every row of it is placed or cancelled."""

    state: State


@dataclass(frozen=True, slots=True)
class PrefillOutput:
    """The answer to a `PrefillBatch`."""

    logits: torch.Tensor  # float [rows, vocabulary], device; after each row's last real token
    prefix: Prefix[Any]
    prompt_logprobs: torch.Tensor | None = None  # float32 [rows, length]; of each token given those before it
    """Only when the batch asks for it; the first of a row, and padding, may hold anything. None where a backend cannot
    tell."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where one row of a prefill goes: always the slot that `PrefillBatch.slots` named for it."""

    row: int
    slot: int


@dataclass(frozen=True, slots=True)
class DecodeBatch:
    """One token for each active slot; row i of every tensor is slot i."""

    shape: DecodeShape
    tokens: torch.Tensor  # int64 [rows], cpu; the token to append, 0 where inactive
    positions: torch.Tensor  # int64 [rows], cpu; its position, that is the tokens the slot holds, 0 where inactive
    active: torch.Tensor  # bool [rows], cpu; an inactive row changes nothing


@dataclass(frozen=True, slots=True)
class DecodeOutput:
    """The answer to a `DecodeBatch`."""

    logits: torch.Tensor  # float [rows, vocabulary], device; inactive rows may hold anything


class Backend(Protocol):
    """A loaded model: an object with the hooks of `runtime.hookspecs.Compute`.

    `prefill`, `concatenate` and `decode` are required. Called on the device thread only.
    """

    def prefill(self, batch: PrefillBatch) -> PrefillOutput: ...

    def concatenate(self, prefix: Prefix[Any], placements: Any) -> None: ...

    def decode(self, batch: DecodeBatch) -> DecodeOutput: ...


@dataclass(frozen=True, slots=True)
class BackendSpec:
    """What a plugin declares for each backend it offers."""

    name: str
    """Value of `--backend`; unique among the installed plugins."""
    summary: str
    """One line for `runtime backends`."""
    contract: str
    """Contract versions it was written for, as a version specifier such as `~=1.0`."""
    probe: Callable[[], Availability]
    """Cheap, imports no vendor package."""
    load: Callable[[ModelSpec, Limits], Backend]
    """Load the weights; called once, on the device thread."""
    options: tuple[Knob, ...] = ()
    """Settings of its own: flags of `runtime serve`, with their variables; their values come in `Limits.options`."""
    preference: int = 50
    """Which of the backends that this machine can run `--backend auto` takes: the highest, above 0."""
    static_shapes: bool = False
    """Whether every shape must be known beforehand: then `warmup` gets them all and each batch is padded to one of
    them. For the others the plan is empty, and batches come as long and as many as they are."""
