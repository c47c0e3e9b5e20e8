"""The Mistral and Llama decoder on tokens that lie one behind the other, whatever rows they belong to.

Only attention knows of rows: it is given, with the cache it owns, by whoever lays rows out. On a device that takes any
shape the tokens are exactly the valid ones; on one with static shapes they are a rectangle of padded rows.

Source of the arithmetic: transformers, models/mistral/modeling_mistral.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

import torch
import torch.nn.functional as F

from runtime.backend import DecoderGeometry, ModelSpec
from runtime.errors import BackendRefused
from runtime.static.kernels import Kernels, Linear
from runtime.static.rotary import RotaryTable
from runtime.static.weights import Weights

Step = TypeVar("Step", contravariant=True)


class Attention(Protocol[Step]):
    """Attention over a cache of keys and values."""

    def __call__(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, step: Step
    ) -> torch.Tensor:
        """Append keys and values to the cache and attend to what each token may see.

        query [tokens, heads, d]; key, value [tokens, kv_heads, d]; returns [tokens, heads * d]. `step` says which
        rows the tokens belong to.
        """
        ...


class Decoder(Generic[Step]):
    """Embedding, layers and head."""

    def __init__(
        self, model: ModelSpec, weights: Weights, kernels: Kernels, attention: Attention[Step], context: int
    ) -> None:
        """Load the weights, layer by layer; `context` is the longest position any row may reach.

        Raises BackendRefused for a model whose arithmetic is another, and for weights that do not fit.
        """
        check_arithmetic(model.decoder)
        prefix = "language_model." if model.images is not None else ""
        table = weights.tensor(f"{prefix}model.embed_tokens.weight", model.vocabulary, model.hidden)
        self._table = table  # [vocabulary, hidden]
        self._layers = [
            Layer(index, f"{prefix}model.layers.{index}.", model, weights, kernels) for index in range(model.layers)
        ]
        self._norm = weights.tensor(f"{prefix}model.norm.weight", model.hidden)
        self._head = kernels.linear(_head(prefix, model, weights, table), None)
        self._kernels = kernels
        self._attention = attention
        self._epsilon = model.decoder.norm_epsilon
        geometry = model.decoder
        self._rotary = RotaryTable(
            geometry.rope_theta, geometry.head_dim, context, table.dtype, table.device, kernels.negates_sine
        )

    def embed(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the vectors of tokens, int64 [tokens]: [tokens, hidden]."""
        return F.embedding(tokens, self._table)

    def forward(
        self, hidden: torch.Tensor, positions: torch.Tensor, step: Step, outputs: list[torch.Tensor] | None = None
    ) -> torch.Tensor:
        """Run all layers; hidden [tokens, hidden], positions int64 [tokens]. `outputs` gets that of each layer."""
        cos, sin = self._rotary.at(positions)
        for layer in self._layers:
            hidden = layer(hidden, cos, sin, self._attention, step)
            if outputs is not None:
                outputs.append(hidden)
        return hidden

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the scores of every token to come, [tokens, vocabulary], after vectors of the last layer."""
        return self._head(self._kernels.rms_norm(hidden, self._norm, self._epsilon))


class Layer:
    """Attention and gated MLP, each with a norm before and a residual around; q, k, v and gate, up are one linear."""

    def __init__(self, index: int, prefix: str, model: ModelSpec, weights: Weights, kernels: Kernels) -> None:
        geometry, hidden = model.decoder, model.hidden
        self._index = index
        self._kernels = kernels
        self._epsilon = geometry.norm_epsilon
        self._heads, self._kv_heads, self._width = model.heads, model.kv_heads, geometry.head_dim
        queries, keys = self._heads * self._width, self._kv_heads * self._width

        def linear(parts: Sequence[str], rows: Sequence[int], columns: int, has_bias: bool) -> Linear:
            weight = weights.stacked([f"{prefix}{part}.weight" for part in parts], rows, columns)
            bias = weights.stacked([f"{prefix}{part}.bias" for part in parts], rows) if has_bias else None
            return kernels.linear(weight, bias)

        self._qkv = linear(
            ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
            (queries, keys, keys),
            hidden,
            geometry.attention_bias,
        )
        self._out = linear(("self_attn.o_proj",), (hidden,), queries, geometry.attention_bias)
        self._gate_up = linear(("mlp.gate_proj", "mlp.up_proj"), (geometry.mlp,) * 2, hidden, geometry.mlp_bias)
        self._down = linear(("mlp.down_proj",), (hidden,), geometry.mlp, geometry.mlp_bias)
        self._attention_norm = weights.tensor(f"{prefix}input_layernorm.weight", hidden)
        self._mlp_norm = weights.tensor(f"{prefix}post_attention_layernorm.weight", hidden)

    def __call__(
        self, hidden: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, attention: Attention[Step], step: Step
    ) -> torch.Tensor:
        tokens, heads, kv_heads = len(hidden), self._heads, self._kv_heads
        qkv = self._qkv(self._kernels.rms_norm(hidden, self._attention_norm, self._epsilon))
        qkv = qkv.view(tokens, heads + 2 * kv_heads, self._width)
        rotated = self._kernels.rotate(qkv[:, : heads + kv_heads], cos, sin)
        seen = attention(self._index, rotated[:, :heads], rotated[:, heads:], qkv[:, heads + kv_heads :], step)
        hidden = hidden + self._out(seen)
        gate, up = self._gate_up(self._kernels.rms_norm(hidden, self._mlp_norm, self._epsilon)).chunk(2, -1)
        return hidden + self._down(F.silu(gate).mul_(up))


def check_arithmetic(geometry: DecoderGeometry) -> None:
    """Raise BackendRefused for what this decoder would compute wrongly."""
    if geometry.rope_scaling is not None:
        raise BackendRefused(f"positions scaled by {geometry.rope_scaling!r} are not supported; use cpu_reference")
    if geometry.activation != "silu":
        raise BackendRefused(f"the activation {geometry.activation!r} is not supported, only silu; use cpu_reference")


def _head(prefix: str, model: ModelSpec, weights: Weights, table: torch.Tensor) -> torch.Tensor:
    """Return the head's weight: its own, or the embedding table where the model says so and the files leave it out."""
    name = f"{prefix}lm_head.weight"
    if model.decoder.tied and not weights.has(name):
        return table
    return weights.tensor(name, model.vocabulary, model.hidden)
