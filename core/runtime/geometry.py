"""LLaVA-NeXT's any-resolution geometry: which canvas a picture gets, how many tiles and how many features.

A picture is shown twice: whole, squeezed into one base tile; and in detail, fitted into a canvas of tiles with its
aspect ratio kept. The features of the canvas that saw only padding are dropped, and each remaining row ends with a
newline feature.

Every function takes size = (height, width) in pixels, both positive. The arithmetic, float rounding included, is that
of transformers (image_processing_utils.py: select_best_resolution, get_patch_output_size;
models/llava_next/modeling_llava_next.py: unpad_image), because the model's weights were trained with it.
"""

from __future__ import annotations

import math
from typing import Protocol

Size = tuple[int, int]


class Grid(Protocol):
    """What is read here of a model's `ImageGeometry`; processes that decode pictures know no more of it."""

    @property
    def tile(self) -> int: ...

    @property
    def patch(self) -> int: ...

    @property
    def pinpoints(self) -> tuple[Size, ...]: ...


def canvas_size(size: Size, geometry: Grid) -> Size:
    """Return the pinpoint that keeps most of the picture's pixels; among equals the least padded, then the first."""
    height, width = size

    def merit(canvas: Size) -> tuple[int, int]:
        scale = min(canvas[1] / width, canvas[0] / height)
        kept = min(int(width * scale) * int(height * scale), width * height)
        return kept, kept - canvas[0] * canvas[1]

    return max(geometry.pinpoints, key=merit)


def fitted_size(size: Size, geometry: Grid) -> Size:
    """Return the picture's size within its canvas, pixels; the aspect ratio is kept and fractions are rounded up."""
    height, width = size
    canvas_height, canvas_width = canvas_size(size, geometry)
    scale_height, scale_width = canvas_height / height, canvas_width / width
    if scale_width < scale_height:
        return min(math.ceil(height * scale_width), canvas_height), canvas_width
    return canvas_height, min(math.ceil(width * scale_height), canvas_width)


def tile_count(size: Size, geometry: Grid) -> int:
    """Return the tiles of a picture: the base tile and those of its canvas."""
    canvas_height, canvas_width = canvas_size(size, geometry)
    return 1 + (canvas_height // geometry.tile) * (canvas_width // geometry.tile)


def unpadded_grid(size: Size, geometry: Grid) -> tuple[int, int]:
    """Return (rows, columns) of canvas features that are kept; one is 0 for a picture thinner than a feature."""
    height, width = size
    canvas_height, canvas_width = canvas_size(size, geometry)
    side = _features_per_side(geometry)
    rows, columns = canvas_height // geometry.tile * side, canvas_width // geometry.tile * side
    if width / height > columns / rows:
        return _unpad(rows, height * (columns / width)), columns
    return rows, _unpad(columns, width * (rows / height))


def base_count(geometry: Grid) -> int:
    """Return the features of the base tile, the least any picture costs."""
    return _features_per_side(geometry) ** 2


def feature_count(size: Size, geometry: Grid) -> int:
    """Return the features of a picture, and so its placeholders in the prompt."""
    rows, columns = unpadded_grid(size, geometry)
    return base_count(geometry) + rows * (columns + 1)


def _features_per_side(geometry: Grid) -> int:
    return geometry.tile // geometry.patch


def _unpad(cells: int, covered: float) -> int:
    """Drop as many cells on both sides as the picture leaves uncovered."""
    padding = (cells - int(round(covered, 7))) // 2
    return cells - 2 * padding
