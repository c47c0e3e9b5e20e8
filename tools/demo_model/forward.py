"""The model's forward over packed rows, by hand: the stock one would spend a full square of attention on every row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from architecture import normalised, vision_features
from packing import Prefix, Tail
from tiles import Pixels
from transformers import LlavaNextForConditionalGeneration
from transformers.models.mistral.modeling_mistral import apply_rotary_pos_emb, repeat_kv

SUPERVISED_LAYERS = (1, 2)
"""Layers whose first head is told where to look."""


@dataclass(frozen=True, slots=True)
class PictureFeatures:
    """What the tower and the projector make of the pictures of a batch."""

    tower: torch.Tensor  # float [tiles of all pictures, patches, hidden]
    projected: torch.Tensor  # float32 [tiles of all pictures, patches, hidden]
    packed: list[torch.Tensor]
    """For each picture its tokens as the language model takes them, [tokens, hidden]."""


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
        tower = vision_features(model.model.vision_tower, pixels)
    projected = model.model.multi_modal_projector(tower).float()
    counts = [len(picture) for picture in tiles]
    return PictureFeatures(tower, projected, pack_patches(model, projected, counts, sizes, model.model.image_newline))


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


def decode(
    language_model: Any, prefix: Prefix, tail: Tail, embedded: torch.Tensor, target: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the last hidden states of the tail, [rows, tail, hidden], and the attention loss.

    `embedded` is the tail's ids embedded. `target`, bool [rows, tail, prefix], marks where the supervised heads
    should look; the loss is minus the mean log of the attention that falls there, 0 without a target.
    """
    width = prefix.states.shape[1]
    rows, length, _ = embedded.shape
    hidden = torch.cat([prefix.states, embedded], 1)
    cos, sin = language_model.rotary_emb(hidden, torch.cat([prefix.positions, tail.positions], 1))
    within = torch.arange(width)[None] < prefix.lengths[:, None]
    prefix_mask = _mask(torch.ones(width, width, dtype=torch.bool).tril())[None, None]
    tail_mask = _mask(torch.cat([within[:, None].expand(rows, length, width), tail.visible], -1))[:, None]
    loss = torch.zeros(())
    for number, layer in enumerate(language_model.layers):
        attention = layer.self_attn
        normed = layer.input_layernorm(hidden)
        query, key, value = (
            project(normed).view(rows, width + length, -1, attention.head_dim).transpose(1, 2)
            for project in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        query, key = apply_rotary_pos_emb(query, key, cos.to(query.dtype), sin.to(query.dtype))
        query = query * attention.scaling
        key, value = (repeat_kv(part, attention.num_key_value_groups) for part in (key, value))
        # Two rectangles: the prefix sees itself, the tail sees both.
        weights = torch.softmax(query[:, :, :width] @ key[:, :, :width].transpose(-1, -2) + prefix_mask, -1)
        of_prefix = weights @ value[:, :, :width]
        weights = torch.softmax(query[:, :, width:] @ key.transpose(-1, -2) + tail_mask, -1)
        if target is not None and number in SUPERVISED_LAYERS:
            seen = (weights[:, 0, :, :width].float() * target).sum(-1)[target.any(-1)]
            loss = loss - (seen + 1e-4).log().mean()
        mixed = torch.cat([of_prefix, weights @ value], 2).transpose(1, 2).reshape(rows, width + length, -1)
        hidden = hidden + attention.o_proj(mixed)
        hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
    return language_model.norm(hidden[:, width:]), loss


def _mask(visible: torch.Tensor) -> torch.Tensor:
    """Return 0 where something is visible and a very negative number elsewhere, bfloat16."""
    lowest = torch.finfo(torch.bfloat16).min
    return torch.zeros(visible.shape, dtype=torch.bfloat16).masked_fill(~visible, lowest)
