"""What a server may do wrong to a picture; each must cost the demo model visibly many answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from architecture import inner_tower, normalised
from forward import pack_patches
from PIL import Image
from runtime.demo.anyres import TILE, canvas_size
from tiles import GRID, Pixels, tiles_of
from transformers import LlavaNextForConditionalGeneration

GREY = 128

Size = tuple[int, int]
Features = Callable[[LlavaNextForConditionalGeneration, Sequence[Image.Image]], list[torch.Tensor]]
"""From pictures to the tokens of each, [tokens, hidden]."""


def blurred_detail(image: Image.Image, side: int = TILE) -> Pixels:
    """Return tiles of which the fine ones show no more than a base tile of that side does, in pixels."""
    coarse = image.resize((side, side), Image.Resampling.BICUBIC).resize(image.size, Image.Resampling.BICUBIC)
    return np.concatenate([tiles_of(image)[:1], tiles_of(coarse)[1:]])


def grey_detail(image: Image.Image) -> Pixels:
    """Return tiles of which the fine ones are grey."""
    tiles = tiles_of(image)
    tiles[1:] = GREY
    return tiles


def grey_base(image: Image.Image) -> Pixels:
    """Return tiles of which the base one is grey."""
    tiles = tiles_of(image)
    tiles[0] = GREY
    return tiles


def features_of(
    view: Callable[[Image.Image], Pixels] = tiles_of,
    *,
    layer: int = -2,
    class_token: bool = False,
    newline: bool = True,
    unpadded: bool = True,
) -> Features:
    """Return the features that a server makes; the defaults are right.

    `class_token` keeps it and so loses the last patch; without `newline` rows are not told apart; without `unpadded`
    the black border of the canvas is kept.
    """

    def features(model: LlavaNextForConditionalGeneration, images: Sequence[Image.Image]) -> list[torch.Tensor]:
        tiles = [view(image) for image in images]
        hidden = _hidden(model, normalised(np.concatenate(tiles)).to(model.dtype), layer)
        patches = model.model.multi_modal_projector(hidden[:, :-1] if class_token else hidden[:, 1:])
        sizes = [(image.height, image.width) for image in images]
        shown = sizes if unpadded else [canvas_size(*size) for size in sizes]
        counts = [len(picture) for picture in tiles]
        packed = pack_patches(model, patches, counts, shown, model.model.image_newline)
        return (
            packed
            if newline
            else [_without_newlines(tokens, *size) for tokens, size in zip(packed, shown, strict=True)]
        )

    return features


MISTAKES: dict[str, Features] = {
    "fine tiles blurred": features_of(blurred_detail),
    "fine tiles blurred twice as much": features_of(partial(blurred_detail, side=TILE // 2)),
    "fine tiles grey": features_of(grey_detail),
    "base tile grey": features_of(grey_base),
    "last layer": features_of(layer=-1),
    "class token kept": features_of(class_token=True),
    "no newline": features_of(newline=False),
    "not unpadded": features_of(unpadded=False),
}


def _hidden(model: LlavaNextForConditionalGeneration, pixels: torch.Tensor, layer: int) -> torch.Tensor:
    """Return hidden_states[layer] with the class token, [tiles, 1 + patches, hidden]."""
    inner = inner_tower(model.model.vision_tower)
    hidden = inner.pre_layrnorm(inner.embeddings(pixels))  # transformers spells it so
    layers = list(inner.encoder.layers)
    for block in layers[: len(layers) + 1 + layer]:
        hidden = block(hidden, None)
        hidden = hidden[0] if isinstance(hidden, tuple) else hidden
    kept: torch.Tensor = hidden
    return kept


def _without_newlines(tokens: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Return a picture's tokens without the one at the end of each row of its fine patches."""
    rows, columns = _unpadded(height, width)
    fine = tokens[GRID * GRID :].view(rows, columns + 1, -1)[:, :-1]
    return torch.cat([tokens[: GRID * GRID], fine.flatten(0, 1)])


def _unpadded(height: int, width: int) -> Size:
    """Return (rows, columns) of the fine patches that are left after unpadding, as transformers' unpad_image has it."""
    canvas = canvas_size(height, width)
    rows, columns = canvas[0] // TILE * GRID, canvas[1] // TILE * GRID
    if width / height > columns / rows:
        border = (rows - int(round(height * (columns / width), 7))) // 2
        return rows - 2 * border, columns
    border = (columns - int(round(width * (rows / height), 7))) // 2
    return rows, columns - 2 * border
