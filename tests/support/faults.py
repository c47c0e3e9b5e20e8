"""Backends broken on purpose, one mistake each, as authors of backends make them, and the stage where each begins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from runtime.backend import Limits, ModelSpec
from runtime.static.device import Host
from support import faults_in_cache as cache
from support import faults_in_decoder as decoder
from support import faults_in_graphs as graphs
from support import faults_in_pictures as pictures
from support.checkpoints import Checkpoint
from support.verifying import static


@dataclass(frozen=True)
class Fault:
    """A mistake, and where it must be found."""

    make: Callable[[pytest.MonkeyPatch], None]
    stage: str
    dtype: torch.dtype = torch.float32
    often: bool = True
    """Whether every run of the tests tries it; the others are much like one that is."""

    @property
    def what(self) -> str:
        return str(self.make.__doc__).strip().rstrip(".")


def load(model: ModelSpec, limits: Limits, dtype: torch.dtype) -> Any:
    """The backend that is broken: the toolkit's, on plain torch."""
    return static(model, limits, dtype, graphs.RUNNER["in use"](Host()))


MODEL = Checkpoint(layers=3, vision_layers=4, seed=7)
"""The one that faults are looked for in."""

BF16 = torch.bfloat16
FAULTS = {
    fault.make.__name__: fault
    for fault in (
        Fault(pictures.transposed, "pixels"),
        Fault(pictures.channels, "pixels", often=False),
        Fault(pictures.normalised, "pixels", often=False),
        Fault(pictures.vision_positions, "vision.0"),
        Fault(decoder.narrow_weights, "vision.0", often=False),
        Fault(pictures.vision_scale, "vision.1", often=False),
        Fault(pictures.vision_activation, "vision.1"),
        Fault(pictures.feature_layer, "vision"),
        Fault(pictures.class_token, "vision"),
        Fault(pictures.projector, "projector"),
        Fault(pictures.no_newline, "embeddings"),
        Fault(pictures.unpadding, "embeddings"),
        Fault(pictures.image_order, "embeddings"),
        Fault(graphs.stale_picture, "embeddings"),
        Fault(pictures.image_cache_key, "embeddings"),
        Fault(decoder.rope_base, "decoder.1"),
        Fault(decoder.rope_interleaved, "decoder.1", often=False),
        Fault(decoder.swapped_heads, "decoder.2"),
        Fault(decoder.grouped_wrongly, "decoder.1", often=False),
        Fault(decoder.softmax_scale, "decoder.1"),
        Fault(decoder.not_causal, "decoder.1", often=False),
        Fault(decoder.narrow_accumulation, "decoder.1"),
        Fault(decoder.norm_epsilon, "decoder.1"),
        Fault(decoder.activation, "decoder.1", often=False),
        Fault(decoder.residual, "decoder.3"),
        Fault(decoder.head_norm, "prefill logits", often=False),
        Fault(cache.last_column, "prefill logits"),
        Fault(graphs.stale_prefill, "prefill logits", often=False),
        Fault(cache.resumed_position, "prefill logits", often=False),
        Fault(cache.decode_position, "decode logits"),
        Fault(cache.left_over, "decode logits"),
        Fault(cache.own_token_hidden, "decode logits", often=False),
        Fault(cache.wrong_slot, "decode logits"),
        Fault(cache.padding_written, "prefill logits"),
        Fault(graphs.stale_decode, "decode logits"),
        Fault(cache.narrow_cache, "decode logits", BF16),
        Fault(cache.bf16_rope, "decode logits", BF16),
        Fault(decoder.bf16_scale, "decoder.1", BF16, often=False),
        Fault(pictures.bf16_newline, "embeddings", BF16),
        Fault(pictures.bf16_class_token, "vision", BF16, often=False),
    )
}
