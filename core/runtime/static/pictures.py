"""Which features of a picture's tiles become tokens, and in which order: an index plan, computed on the host.

The device only gathers rows; nothing in it depends on a picture's size.
"""

from __future__ import annotations

import torch

from runtime.backend import ImageGeometry
from runtime.geometry import canvas_size, unpadded_grid


def feature_index(size: tuple[int, int], geometry: ImageGeometry) -> torch.Tensor:
    """Return where each token of a picture, (height, width) pixels, finds its vector: int64 [tokens], cpu.

    The table is the features of all tiles, base tile first, [tiles * patches], and the newline vector behind them.
    The order is LLaVA-NeXT's: the base tile; then the canvas without its padding, line by line, a newline after each
    (transformers, models/llava_next/modeling_llava_next.py, pack_image_features).
    """
    side = geometry.tile // geometry.patch
    patches = side * side
    height, width = (extent // geometry.tile for extent in canvas_size(size, geometry))
    rows, columns = unpadded_grid(size, geometry)
    line = torch.arange(rows) + (height * side - rows) // 2
    column = torch.arange(columns) + (width * side - columns) // 2
    tile = 1 + (line // side).unsqueeze(1) * width + column // side  # [rows, columns]
    cell = (line % side).unsqueeze(1) * side + column % side
    newline = torch.full((rows, 1), (1 + height * width) * patches)
    canvas = torch.cat([tile * patches + cell, newline], 1)
    return torch.cat([torch.arange(patches), canvas.flatten()])


def most_features(tiles: int, geometry: ImageGeometry) -> int:
    """Return the most tokens that a picture of so many tiles can come to: those of a canvas that it fills."""
    side = geometry.tile // geometry.patch
    grids = [(height // geometry.tile, width // geometry.tile) for height, width in geometry.pinpoints]
    return side**2 + max(rows * side * (columns * side + 1) for rows, columns in grids if rows * columns == tiles - 1)
