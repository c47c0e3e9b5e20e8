"""The model's forward over packed rows, by hand: the stock one would spend a full square of attention on every row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from architecture import normalised, vision_states
from packing import Prefix, Tail
from tiles import Pixels
from transformers import LlavaNextForConditionalGeneration
from transformers.models.mistral.modeling_mistral import apply_rotary_pos_emb, repeat_kv

UNDERSTOOD = 3
"""Layers after which the language model is to know what each picture token shows."""


@dataclass(frozen=True, slots=True)
class PictureFeatures:
    """What the tower and the projector make of the pictures of a batch."""

    tower: torch.Tensor  # float [tiles of all pictures, 1 + patches, hidden], the class token first
    packed: list[torch.Tensor]
    """For each picture its tokens as the language model takes them, [tokens, hidden]."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """Hidden states of the language model over packed rows."""

    understood: torch.Tensor  # float [rows, prefix, hidden], after UNDERSTOOD layers
    said: torch.Tensor  # float [rows, tail, hidden], after the last layer and its norm


def picture_features(
    model: LlavaNextForConditionalGeneration,
    tiles: Sequence[Pixels],
    sizes: Sequence[tuple[int, int]],
    *,
    noise: float = 0.0,
    frozen: bool = False,
) -> PictureFeatures:
    """Return the features of pictures of these tiles and (height, width); `frozen` spares the tower's backward."""
    pixels = normalised(np.concatenate(tiles))
    if noise:
        pixels = pixels + torch.randn_like(pixels) * noise
    with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
        tower = vision_states(model.model.vision_tower, pixels)
    projected = model.model.multi_modal_projector(tower[:, 1:]).float()
    counts = [len(picture) for picture in tiles]
    return PictureFeatures(tower, pack_patches(model, projected, counts, sizes, model.model.image_newline))


def pack_patches(
    model: LlavaNextForConditionalGeneration,
    patches: torch.Tensor,
    tile_counts: Sequence[int],
    sizes: Sequence[tuple[int, int]],
    newline: torch.Tensor,
) -> list[torch.Tensor]:
    """Return what is said of patches, [tiles, patches, n], in the order of each picture's tokens: [tokens, n].

    Unpads and puts a newline after each row of patches as LLaVA-NeXT does (transformers, pack_image_features).
    """
    packed, _ = model.model.pack_image_features(
        list(torch.split(patches, list(tile_counts))),
        torch.tensor(sizes),
        vision_feature_select_strategy="default",
        image_newline=newline,
    )
    return list(packed)


def decode(language_model: Any, prefix: Prefix, tail: Tail, embedded: torch.Tensor) -> Decoded:
    """Return the hidden states of rows whose tails have the ids embedded in `embedded`, [rows, tail, hidden]."""
    width = prefix.states.shape[1]
    rows, length, _ = embedded.shape
    hidden = torch.cat([prefix.states, embedded], 1)
    positions = torch.cat([torch.arange(width).expand(rows, width), tail.positions], 1)
    cos, sin = language_model.rotary_emb(hidden, positions)
    within = torch.arange(width)[None] < prefix.lengths[:, None]
    prefix_mask = _mask(torch.ones(width, width, dtype=torch.bool).tril())[None, None]
    tail_mask = _mask(torch.cat([within[:, None].expand(rows, length, width), tail.visible], -1))[:, None]
    understood = hidden[:, :width]
    for number, layer in enumerate(language_model.layers, 1):
        is_last = number == len(language_model.layers)
        attention = layer.self_attn
        normed = layer.input_layernorm(hidden)
        query, key, value = (
            project(normed).view(rows, width + length, -1, attention.head_dim).transpose(1, 2)
            for project in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        query, key = apply_rotary_pos_emb(query, key, cos.to(query.dtype), sin.to(query.dtype))
        query = query * attention.scaling
        key, value = (repeat_kv(part, attention.num_key_value_groups) for part in (key, value))
        # Two rectangles: the prefix sees itself, the tail sees both. Nobody sees the prefix after the last layer.
        weights = torch.softmax(query[:, :, width:] @ key.transpose(-1, -2) + tail_mask, -1)
        mixed = weights @ value
        if is_last:
            hidden = hidden[:, width:]
        else:
            weights = torch.softmax(query[:, :, :width] @ key[:, :, :width].transpose(-1, -2) + prefix_mask, -1)
            mixed = torch.cat([weights @ value[:, :, :width], mixed], 2)
        hidden = hidden + attention.o_proj(mixed.transpose(1, 2).flatten(2))
        hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
        if number == UNDERSTOOD:
            understood = hidden[:, :width]
    return Decoded(understood, language_model.norm(hidden))


def _mask(visible: torch.Tensor) -> torch.Tensor:
    """Return 0 where something is visible and a very negative number elsewhere, bfloat16."""
    lowest = torch.finfo(torch.bfloat16).min
    return torch.zeros(visible.shape, dtype=torch.bfloat16).masked_fill(~visible, lowest)
