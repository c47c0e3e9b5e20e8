"""How the demo model cuts a picture into tiles: the any-resolution rule of LLaVA-NeXT at a quarter of its size.

The rule is that of `select_best_resolution` and `get_patch_output_size` in transformers
(image_processing_utils.py, image_processing_llava_next.py). It is kept apart from the server's own geometry on purpose:
which digits a picture carries depends on it, and a seed must give the same picture whatever becomes of the server.
"""

from __future__ import annotations

import math

TILE = 84
"""Side of a tile in pixels."""

PATCH = 12
"""Side of a patch in pixels; a tile has (TILE / PATCH) squared of them."""

PINPOINTS = (
    (TILE, 2 * TILE),
    (2 * TILE, TILE),
    (2 * TILE, 2 * TILE),
    (3 * TILE, TILE),
    (TILE, 3 * TILE),
)
"""Sizes (height, width) of the canvas that fine tiles are cut from."""


def canvas_size(height: int, width: int) -> tuple[int, int]:
    """Return the pinpoint (height, width) that keeps most of the picture, and of those the one that wastes least."""

    def merit(pinpoint: tuple[int, int]) -> tuple[int, int]:
        scale = min(pinpoint[1] / width, pinpoint[0] / height)
        kept = min(int(width * scale) * int(height * scale), width * height)
        return kept, kept - pinpoint[0] * pinpoint[1]

    return max(PINPOINTS, key=merit)


def fitted_size(height: int, width: int, canvas: tuple[int, int]) -> tuple[int, int]:
    """Return the (height, width) that a picture has when it is scaled to fit the canvas, rounded up."""
    scale_h, scale_w = canvas[0] / height, canvas[1] / width
    if scale_w < scale_h:
        return min(math.ceil(height * scale_w), canvas[0]), canvas[1]
    return canvas[0], min(math.ceil(width * scale_h), canvas[1])


def margin(fitted: tuple[int, int], canvas: tuple[int, int]) -> tuple[int, int]:
    """Return the (top, left) padding in pixels of a fitted picture in the middle of its canvas."""
    return (canvas[0] - fitted[0]) // 2, (canvas[1] - fitted[1]) // 2
