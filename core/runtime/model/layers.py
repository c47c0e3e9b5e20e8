"""The numbers inside a model's layers, read from its config."""

from __future__ import annotations

from typing import Final

from runtime.backend import DecoderGeometry, VisionGeometry
from runtime.model.section import MAX_LAYERS, Section

MAX_WIDTH: Final = 2**16
MAX_NAME: Final = 40
"""Characters of the name of an activation or a scaling."""


def read_decoder(config: Section, text: Section, hidden: int, heads: int) -> DecoderGeometry:
    """Read the decoder; `text` is the part of `config` that describes it, or all of it."""
    # transformers 5 keeps rope_theta and the scaling together, 4 apart.
    rope = text.section("rope_parameters") if text.has("rope_parameters") else text
    return DecoderGeometry(
        head_dim=text.integer_or_none("head_dim", 1, MAX_WIDTH) or hidden // heads,
        mlp=text.integer("intermediate_size", 1, MAX_WIDTH * 4),
        norm_epsilon=text.number("rms_norm_eps", 1),
        rope_theta=rope.number("rope_theta", 1e12) if rope.has("rope_theta") else 10000.0,
        rope_scaling=_scaling(text, rope),
        activation=text.name("hidden_act", MAX_NAME),
        attention_bias=text.flag("attention_bias"),
        mlp_bias=text.flag("mlp_bias"),
        # transformers 5 reads it at the top of a vision model's config, 4 in the text part.
        tied=config.flag("tie_word_embeddings") or text.flag("tie_word_embeddings"),
    )


def read_vision(config: Section) -> VisionGeometry:
    """Read the vision tower and the projector."""
    vision = config.section("vision_config").with_defaults("clip_vision_model")
    layers = vision.integer("num_hidden_layers", 1, MAX_LAYERS)
    chosen = config.integers("vision_feature_layer", -layers - 1, layers)
    hidden = vision.integer("hidden_size", 1, MAX_WIDTH)
    heads = vision.integer("num_attention_heads", 1, MAX_WIDTH)
    if hidden % heads:
        raise vision.refusal("hidden_size", f"a multiple of num_attention_heads, which is {heads}")
    return VisionGeometry(
        layers=layers,
        hidden=hidden,
        heads=heads,
        mlp=vision.integer("intermediate_size", 1, MAX_WIDTH * 4),
        norm_epsilon=vision.number("layer_norm_eps", 1),
        activation=vision.name("hidden_act", MAX_NAME),
        feature_layers=tuple(layer if layer >= 0 else layers + 1 + layer for layer in chosen),
        projector_activation=config.name("projector_hidden_act", MAX_NAME),
        projector_bias=config.flag("multimodal_projector_bias"),
    )


def _scaling(text: Section, rope: Section) -> str | None:
    """Return the kind of scaling, `rope_type` or, in old configs, `type`; None for none."""
    part = text.section("rope_scaling") if text.has("rope_scaling") else rope
    key = "rope_type" if part.has("rope_type") else "type"
    kind = part.name(key, MAX_NAME) if part.has(key) else "default"
    return None if kind == "default" else kind
