"""How every picture of up to so many pixels a side is cut: the rule of `runtime.geometry` on arrays, written apart."""

from __future__ import annotations

from typing import Any

import numpy as np
from runtime.backend import ImageGeometry

Grid = np.ndarray[Any, np.dtype[np.int64]]


def cut_table(heights: Grid, widths: Grid, geometry: ImageGeometry) -> tuple[Grid, Grid]:
    """Return (tiles, tokens), each [heights, widths]; 0 tokens for a picture too thin to be seen."""
    height, width = heights[:, None], widths[None, :]
    best = np.full((len(heights), len(widths)), -(2**62), dtype=np.int64)
    rows, columns = np.zeros_like(best), np.zeros_like(best)
    side = geometry.tile // geometry.patch
    for canvas_height, canvas_width in geometry.pinpoints:
        scale = np.minimum(canvas_width / width, canvas_height / height)
        kept = np.minimum((width * scale).astype(np.int64) * (height * scale).astype(np.int64), width * height)
        merit = kept * 2**32 - (canvas_height * canvas_width - kept)  # most pixels, then least padding
        better = merit > best
        best = np.where(better, merit, best)
        rows = np.where(better, canvas_height // geometry.tile * side, rows)
        columns = np.where(better, canvas_width // geometry.tile * side, columns)
    tiles = 1 + rows * columns // side**2
    seen_rows = np.round(height * (columns / width), 7).astype(np.int64)
    seen_columns = np.round(width * (rows / height), 7).astype(np.int64)
    is_wide = width / height > columns / rows
    kept_rows = np.where(is_wide, rows - (rows - seen_rows) // 2 * 2, rows)
    kept_columns = np.where(is_wide, columns, columns - (columns - seen_columns) // 2 * 2)
    tokens = side**2 + kept_rows * (kept_columns + 1)
    return tiles, np.where((kept_rows > 0) & (kept_columns > 0), tokens, 0)
