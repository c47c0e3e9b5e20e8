"""Pictures as the model's image processor cuts them, up to rescaling and normalisation."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image
from runtime.demo.anyres import PATCH, TILE, canvas_size, fitted_size, margin

GRID = TILE // PATCH
"""Patches along a side of a tile."""

Pixels = npt.NDArray[np.uint8]


def tiles_of(image: Image.Image, resample: Image.Resampling = Image.Resampling.BICUBIC) -> Pixels:
    """Return the base tile and the fine tiles row by row: uint8 [tiles, TILE, TILE] plus [3] for an RGB image.

    Bit for bit what the Pillow image processor of transformers does (image_processing_llava_next.py): the base tile
    does not keep the aspect ratio, the fine ones are cut from a black canvas with the picture in its middle.
    """
    canvas = canvas_size(image.height, image.width)
    fitted = fitted_size(image.height, image.width, canvas)
    top, left = margin(fitted, canvas)
    padded = Image.new(image.mode, (canvas[1], canvas[0]), 0)
    padded.paste(image.resize((fitted[1], fitted[0]), resample), (left, top))
    pixels = np.asarray(padded)
    tiles = [np.asarray(image.resize((TILE, TILE), resample))]
    for y in range(0, canvas[0], TILE):
        tiles += [pixels[y : y + TILE, x : x + TILE] for x in range(0, canvas[1], TILE)]
    return np.stack(tiles)


def tile_count(height: int, width: int) -> int:
    """Return how many tiles a picture of that size is cut into, the base tile among them."""
    canvas = canvas_size(height, width)
    return 1 + (canvas[0] // TILE) * (canvas[1] // TILE)
