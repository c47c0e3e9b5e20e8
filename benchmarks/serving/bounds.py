"""The least time a machine could take: arithmetic from the numbers of the model, with the machine's measured rates.

Prompts are bound by the rate of matrix products: two operations for each weight and token, and the attention of each
token to those before it; of the head only the last token is computed. Steps are bound by reading: every weight of the
decoder and the head once, in two bytes, and the keys and values of every row. What else there is to do counts nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from runtime.backend import ModelSpec

BYTES: Final = 2
"""Of a number in bfloat16."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What this machine was measured to do."""

    read: float
    """Bytes from memory per second."""
    multiply: float
    """Operations of bf16 matrix products per second."""


@dataclass(frozen=True, slots=True)
class Bound:
    """The least times of a workload, seconds, and the speeds they allow."""

    requests: int
    new_tokens: int
    prompt: float
    """To compute one prompt."""
    step: float
    """To append one token to every row."""

    @property
    def decode(self) -> float:
        """Tokens per second of one request after its first."""
        return 1 / self.step

    @property
    def aggregate(self) -> float:
        """Tokens per second of all requests, their prompts included; the first token comes with the prompt."""
        seconds = self.requests * self.prompt + (self.new_tokens - 1) * self.step
        return self.requests * self.new_tokens / seconds


def bound_of(
    model: ModelSpec, machine: Machine, requests: int, prompt_tokens: int, tiles: int, new_tokens: int
) -> Bound:
    """Return the bound of requests that come at once; `tiles` are those of one prompt's pictures."""
    operations = prompt_operations(model, prompt_tokens) + tiles * tile_operations(model)
    context = prompt_tokens + new_tokens / 2  # on the average of the reply
    return Bound(
        requests, new_tokens, operations / machine.multiply, step_bytes(model, requests, context) / machine.read
    )


def layer_weights(model: ModelSpec) -> int:
    """Return the weights of all matrices in the decoder's layers."""
    queries, keys = model.heads * model.decoder.head_dim, model.kv_heads * model.decoder.head_dim
    return model.layers * model.hidden * (2 * queries + 2 * keys + 3 * model.decoder.mlp)


def head_weights(model: ModelSpec) -> int:
    """Return the weights of the head."""
    return model.vocabulary * model.hidden


def prompt_operations(model: ModelSpec, tokens: int) -> int:
    """Return the operations of a prompt in the decoder."""
    attention = 2 * model.layers * model.heads * model.decoder.head_dim * tokens * (tokens + 1)
    return 2 * layer_weights(model) * tokens + attention + 2 * head_weights(model)


def tile_operations(model: ModelSpec) -> int:
    """Return the operations of one tile in the vision tower, as far as its features need it, and the projector."""
    assert model.vision is not None
    assert model.images is not None
    vision, images = model.vision, model.images
    patches = (images.tile // images.patch) ** 2
    tokens = patches + 1
    embedding = 2 * patches * 3 * images.patch**2 * vision.hidden
    weights = 4 * vision.hidden**2 + 2 * vision.hidden * vision.mlp
    layer = 2 * weights * tokens + 4 * tokens**2 * vision.hidden
    features = vision.hidden * len(vision.feature_layers)
    projector = 2 * patches * (features * model.hidden + model.hidden**2)
    return embedding + max(vision.feature_layers) * layer + projector


def step_bytes(model: ModelSpec, rows: int, context: float) -> float:
    """Return what a step reads: weights, and the keys and values of `context` tokens per row."""
    cache = 2 * model.layers * model.kv_heads * model.decoder.head_dim * context
    return BYTES * (layer_weights(model) + head_weights(model) + rows * cache)
