"""The weights of a checkpoint, one tensor at a time."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Final

import torch

from benchmarks.checkpoint.geometry import PATCH, TILE, VOCABULARY, Geometry
from benchmarks.checkpoint.tokenizer import IMAGE_TOKEN, INVISIBLE

SMALL: Final = 0.02
HEAD: Final = "language_model.lm_head.weight"
HEAD_GAIN: Final = 4.0
"""Spreads the logits, so that one token wins clearly."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor to be made: normally distributed, or all ones."""

    name: str
    shape: tuple[int, ...]
    deviation: float
    """Standard deviation; 0 for ones."""

    @property
    def bytes(self) -> int:
        return 2 * prod(self.shape)

    def make(self) -> torch.Tensor:
        """Return the values, bfloat16; they depend on the name alone.

        The head's rows of tokens without text are zero: no greedy reply contains them, so none ends by itself.
        """
        if not self.deviation:
            return torch.ones(self.shape, dtype=torch.bfloat16)
        generator = torch.Generator().manual_seed(zlib.crc32(self.name.encode()))
        values = torch.empty(self.shape).normal_(0.0, self.deviation, generator=generator)
        if self.name == HEAD:
            values[:INVISIBLE] = 0
            values[IMAGE_TOKEN:] = 0
        return values.to(torch.bfloat16)


def tensors_of(geometry: Geometry) -> Iterator[TensorSpec]:
    """Yield every tensor under its name in llava-v1.6-mistral-7b."""
    hidden = geometry.hidden
    yield from _tower(geometry)
    yield from _linear("multi_modal_projector.linear_1", hidden, geometry.vision_hidden)
    yield from _linear("multi_modal_projector.linear_2", hidden, hidden)
    yield TensorSpec("image_newline", (hidden,), hidden**-0.5)
    yield TensorSpec("language_model.model.embed_tokens.weight", (VOCABULARY, hidden), 1.0)
    for layer in range(geometry.layers):
        yield from _decoder_layer(f"language_model.model.layers.{layer}.", geometry)
    yield TensorSpec("language_model.model.norm.weight", (hidden,), 0)
    yield TensorSpec(HEAD, (VOCABULARY, hidden), HEAD_GAIN * hidden**-0.5)


def _decoder_layer(prefix: str, geometry: Geometry) -> Iterator[TensorSpec]:
    hidden, keys = geometry.hidden, geometry.kv_heads * geometry.head_dim
    for norm in ("input_layernorm", "post_attention_layernorm"):
        yield TensorSpec(f"{prefix}{norm}.weight", (hidden,), 0)
    sizes = {
        "self_attn.q_proj": (hidden, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, hidden),
        "mlp.gate_proj": (geometry.mlp, hidden),
        "mlp.up_proj": (geometry.mlp, hidden),
        "mlp.down_proj": (hidden, geometry.mlp),
    }
    for name, (rows, columns) in sizes.items():
        yield TensorSpec(f"{prefix}{name}.weight", (rows, columns), columns**-0.5)


def _tower(geometry: Geometry) -> Iterator[TensorSpec]:
    width, prefix = geometry.vision_hidden, "vision_tower.vision_model."
    yield TensorSpec(f"{prefix}embeddings.class_embedding", (width,), SMALL)
    yield TensorSpec(f"{prefix}embeddings.patch_embedding.weight", (width, 3, PATCH, PATCH), SMALL)
    yield TensorSpec(f"{prefix}embeddings.position_embedding.weight", ((TILE // PATCH) ** 2 + 1, width), SMALL)
    for norm in ("pre_layrnorm", "post_layernorm"):
        yield from _norm(f"{prefix}{norm}", width)
    for layer in range(geometry.vision_layers):
        block = f"{prefix}encoder.layers.{layer}."
        for norm in ("layer_norm1", "layer_norm2"):
            yield from _norm(f"{block}{norm}", width)
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from _linear(f"{block}self_attn.{part}", width, width)
        yield from _linear(f"{block}mlp.fc1", geometry.vision_mlp, width)
        yield from _linear(f"{block}mlp.fc2", width, geometry.vision_mlp)


def _norm(name: str, width: int) -> Iterator[TensorSpec]:
    yield TensorSpec(f"{name}.weight", (width,), 0)
    yield TensorSpec(f"{name}.bias", (width,), SMALL)


def _linear(name: str, rows: int, columns: int) -> Iterator[TensorSpec]:
    yield TensorSpec(f"{name}.weight", (rows, columns), columns**-0.5)
    yield TensorSpec(f"{name}.bias", (rows,), SMALL)
