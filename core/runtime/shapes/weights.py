"""How many numbers a model's weights hold, from its configs alone. Pure."""

from __future__ import annotations

from typing import Final

from runtime.backend import ImageGeometry, ModelSpec, VisionGeometry
from runtime.geometry import base_count

COLOURS: Final = 3


def parameters_of(model: ModelSpec) -> int:
    """Count the weights of a Mistral or Llama decoder and, where there is one, of the CLIP tower and the projector."""
    count = _decoder(model)
    if model.vision is not None and model.images is not None:
        count += _tower(model.vision, model.images) + _projector(model.vision, model.hidden)
    return count


def _decoder(model: ModelSpec) -> int:
    hidden, decoder = model.hidden, model.decoder
    query, pair = model.heads * decoder.head_dim, 2 * model.kv_heads * decoder.head_dim
    attention = 2 * hidden * query + hidden * pair + (query + pair + hidden if decoder.attention_bias else 0)
    mlp = 3 * hidden * decoder.mlp + (2 * decoder.mlp + hidden if decoder.mlp_bias else 0)
    norms = 2 * hidden
    tables = model.vocabulary * hidden * (1 if decoder.tied else 2)
    return model.layers * (attention + mlp + norms) + hidden + tables


def _tower(vision: VisionGeometry, images: ImageGeometry) -> int:
    width, norm = vision.hidden, 2 * vision.hidden
    patches = COLOURS * images.patch**2 * width
    positions = (base_count(images) + 1) * width
    attention = 4 * (width + 1) * width
    mlp = (width + 1) * vision.mlp + (vision.mlp + 1) * width
    return width + patches + positions + norm + vision.layers * (attention + mlp + 2 * norm) + norm


def _projector(vision: VisionGeometry, hidden: int) -> int:
    """Two layers, and the feature that ends each row of a picture."""
    features = vision.hidden * len(vision.feature_layers)
    return (features + hidden) * hidden + (2 * hidden if vision.projector_bias else 0) + hidden
