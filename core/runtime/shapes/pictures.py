"""What pictures come to: every picture, whatever its size, is cut in one of finitely many ways.

A picture fills its canvas in one direction and keeps an even number of cells less in the other (`runtime.geometry`),
so a canvas of R x C cells has at most R / 2 + C / 2 cuts, and a model has few canvases.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from runtime.backend import ImageGeometry
from runtime.geometry import Size, base_count, canvas_size, feature_count, tile_count, unpadded_grid
from runtime.shapes.lookup import PlannedShapes

SCALES: Final = (1.0, 0.5, 2.0)
"""Pictures as large as their canvas, smaller and larger; the first finds every cut of LLaVA-NeXT's canvases."""
NUDGES: Final = (0.0, 0.5, 1.0, -0.5)
"""Cells less than a picture fills: a cut belongs to a range of sizes, of which a competing canvas may take a part."""


@dataclass(frozen=True, slots=True)
class Cut:
    """One way in which pictures are cut."""

    tiles: int
    """For the vision tower, base tile included."""
    tokens: int
    """In the prompt."""
    witness: Size
    """(height, width) of a picture that is cut so, pixels."""


@dataclass(frozen=True, slots=True)
class PaddedPicture:
    """What a picture costs by itself, before any text."""

    tiles: int
    tokens: int
    bucket: int
    """Tokens that a prompt of this picture alone is padded to."""

    @property
    def padding(self) -> int:
        """Tokens computed in vain."""
        return self.bucket - self.tokens


def cuts_of(geometry: ImageGeometry) -> tuple[Cut, ...]:
    """Return one cut for each (tiles, tokens) that a picture can come to, ascending."""
    found = {(cut.tiles, cut.tokens): cut for canvas in geometry.pinpoints for cut in _cuts(canvas, geometry)}
    return tuple(found[key] for key in sorted(found))


def padded_picture(size: Size, geometry: ImageGeometry, shapes: PlannedShapes) -> PaddedPicture:
    """Return the cost of a picture of (height, width) pixels; raises UnplannedShape when no prompt can hold it."""
    tokens = feature_count(size, geometry)
    return PaddedPicture(tile_count(size, geometry), tokens, shapes.prefill_for(1, tokens).length)


def _cuts(canvas: Size, geometry: ImageGeometry) -> Iterator[Cut]:
    """Yield every cut on a canvas that some picture has; canvases compete, so not every one does."""
    rows, columns = unpadded_grid(canvas, geometry)
    grids = {(kept, columns) for kept in range(rows, 0, -2)} | {(rows, kept) for kept in range(columns, 0, -2)}
    for grid in grids:
        witness = next(
            (size for size in _candidates(grid, canvas, geometry) if _is_cut(size, grid, canvas, geometry)), None
        )
        if witness is not None:
            yield Cut(tile_count(canvas, geometry), base_count(geometry) + grid[0] * (grid[1] + 1), witness)


def _candidates(grid: tuple[int, int], canvas: Size, geometry: ImageGeometry) -> Iterator[Size]:
    """Yield pictures that fill about these cells."""
    full = unpadded_grid(canvas, geometry)
    for scale in SCALES:
        for nudge in NUDGES:
            cells = [kept if kept == whole else kept - nudge for kept, whole in zip(grid, full, strict=True)]
            height, width = (
                max(1, round(scale * side * count / whole))
                for side, count, whole in zip(canvas, cells, full, strict=True)
            )
            yield height, width


def _is_cut(size: Size, grid: tuple[int, int], canvas: Size, geometry: ImageGeometry) -> bool:
    return canvas_size(size, geometry) == canvas and unpadded_grid(size, geometry) == grid
