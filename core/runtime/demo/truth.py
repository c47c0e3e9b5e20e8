"""What is true of a scene, and what is so near a border that nobody should be asked about it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

from runtime.demo.scene import Scene, Shape

Placed = TypeVar("Placed", Shape, tuple[float, float, float])

SAME_ROW, OTHER_ROW = 0.12, 0.18
"""Shares of the height: two centres no farther apart are in one row, two at least so far apart are in two."""

SMALL, LARGE = 0.19, 0.26
"""Diameters as shares of the square root of the area: at most small, at least large."""

THIRDS = (0.40, 0.60)
"""Where the middle third begins and ends; a little more is left to the sides."""

CLEARANCE = 0.04
"""Share of the picture within which of a border no place is told."""

SMALLEST_DIGIT, LARGEST_DIGIT = 12.0, 22.5
"""Heights in pixels of the fine tiles; smaller ones are often misread."""

APART = 0.15
"""Share of the picture by which two centres differ for one shape to be left of, or above, the other."""


def size_of(diameter: float, width: int, height: int) -> str:
    """Return `small`, `large`, or `medium` for what is neither."""
    share = diameter / math.sqrt(width * height)
    return "small" if share <= SMALL else "large" if share >= LARGE else "medium"


def order_is_clear(shapes: Sequence[Placed], height: int) -> bool:
    """Whether any two shapes are either in one row or clearly in two, and rows do not run into each other."""
    heights = sorted(_centre(shape)[1] / height for shape in shapes)
    rows = [[heights[0]]]
    for y in heights[1:]:
        if y - rows[-1][-1] >= OTHER_ROW:
            rows.append([y])
        else:
            rows[-1].append(y)
    return all(row[-1] - row[0] <= SAME_ROW for row in rows)


def in_reading_order(shapes: Sequence[Placed], height: int) -> list[Placed]:
    """Return the shapes row by row, and from left to right within a row."""
    ordered: list[Placed] = []
    row: list[Placed] = []
    for shape in sorted(shapes, key=lambda each: _centre(each)[1]):
        if row and _centre(shape)[1] - _centre(row[0])[1] > SAME_ROW * height:
            ordered += sorted(row, key=_centre)
            row = []
        row.append(shape)
    return ordered + sorted(row, key=_centre)


def place_is_clear(scene: Scene, shape: Shape) -> bool:
    """Whether a shape's centre is well within a ninth of the picture."""
    return all(
        abs(share - border) >= CLEARANCE
        for share in (shape.x / scene.width, shape.y / scene.height)
        for border in THIRDS
    )


def ninth_of(scene: Scene, shape: Shape) -> tuple[int, int]:
    """Return (row, column) of the ninth of the picture that a shape's centre is in, from 0."""
    row, column = (
        0 if share < THIRDS[0] else 2 if share > THIRDS[1] else 1
        for share in (shape.y / scene.height, shape.x / scene.width)
    )
    return row, column


def place_of(scene: Scene, shape: Shape) -> str:
    """Return where in the picture a shape is, as an answer says it."""
    row, column = ninth_of(scene, shape)
    vertical, horizontal = ("top", "", "bottom")[row], ("left", "", "right")[column]
    if vertical:
        return f"at the {vertical} {horizontal}".strip()
    return f"on the {horizontal}" if horizontal else "in the centre"


def _centre(shape: Placed) -> tuple[float, float]:
    return (shape.x, shape.y) if isinstance(shape, Shape) else (shape[0], shape[1])
