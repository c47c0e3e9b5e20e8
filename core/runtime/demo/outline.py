"""The geometry of shapes and digits, on a square of side one with the origin in its middle and y downwards."""

from __future__ import annotations

import math

import numpy as np

Point = tuple[float, float]


def _star() -> list[Point]:
    radii = (0.53, 0.23)
    return [
        (radii[k % 2] * math.sin(k * math.pi / 5), -radii[k % 2] * math.cos(k * math.pi / 5) + 0.03) for k in range(10)
    ]


def _heart() -> list[Point]:
    """The usual parametric heart curve in 28 points."""
    points = []
    for k in range(28):
        t = 2 * math.pi * k / 28
        x = 16 * math.sin(t) ** 3
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        points.append((x / 34, -(y + 2.5) / 32))
    return points


def _cross(arm: float = 0.17) -> list[Point]:
    upper = [(-arm, -0.5), (arm, -0.5), (arm, -arm), (0.5, -arm), (0.5, arm), (arm, arm)]
    return upper + [(-x, -y) for x, y in upper]


POLYGONS: dict[str, list[Point]] = {
    "square": [(-0.44, -0.44), (0.44, -0.44), (0.44, 0.44), (-0.44, 0.44)],
    "triangle": [(0, -0.5), (0.5, 0.42), (-0.5, 0.42)],
    "diamond": [(0, -0.5), (0.42, 0), (0, 0.5), (-0.42, 0)],
    "cross": _cross(),
    "star": _star(),
    "heart": _heart(),
}
"""Corners of every kind of shape but the round ones."""

RADIUS = 0.48
"""Of a circle and of a ring's outside."""

HOLE_RADIUS = 0.30
"""Of a ring's inside."""


def rotated(points: list[Point], degrees: float) -> list[Point]:
    """Return the points turned about the origin."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return [(x * cos - y * sin, x * sin + y * cos) for x, y in points]


def _arc(x: float, y: float, across: float, down: float, first: int, last: int) -> list[Point]:
    """Points of an ellipse's outline, between two angles in degrees from the right, clockwise."""
    steps = 12
    angles = (math.radians(first + (last - first) * step / steps) for step in range(steps + 1))
    return [(x + across * math.cos(angle), y + down * math.sin(angle)) for angle in angles]


STROKES: tuple[list[list[Point]], ...] = (
    [_arc(3, 5, 2.8, 5, 0, 360)],
    [[(1, 2.4), (3.4, 0), (3.4, 10)]],
    [[*_arc(3, 2.9, 2.8, 2.9, 190, 400), (0.2, 10), (6, 10)]],
    [_arc(2.8, 2.5, 2.6, 2.5, 200, 450), _arc(2.8, 7.4, 3, 2.6, 270, 520)],
    [[(4.6, 10), (4.6, 0), (0, 6.9), (6.2, 6.9)]],
    [[(5.6, 0), (1, 0), (0.6, 4.9), *_arc(2.9, 6.8, 2.9, 3.2, 220, 510)]],
    [[(4.6, 0), (2, 2.6), (0.4, 5.6), *_arc(3, 7, 2.8, 3, 190, 550)]],
    [[(0, 0), (6, 0), (2.2, 10)]],
    [_arc(3, 2.5, 2.4, 2.5, 0, 360), _arc(3, 7.4, 2.9, 2.6, 0, 360)],
    [[(1.4, 10), (4, 7.4), (5.6, 4.4), *_arc(3, 3, 2.8, 3, 10, 370)]],
)
"""Lines of the digits 0 to 9 as a pen writes them, on a field of 6 by 10."""

_GLYPH_ROWS = (
    "01110 10001 10011 10101 11001 10001 01110",
    "00100 01100 00100 00100 00100 00100 01110",
    "01110 10001 00001 00110 01000 10000 11111",
    "11110 00001 00001 01110 00001 00001 11110",
    "00010 00110 01010 10010 11111 00010 00010",
    "11111 10000 11110 00001 00001 10001 01110",
    "00110 01000 10000 11110 10001 10001 01110",
    "11111 00001 00010 00100 01000 01000 01000",
    "01110 10001 10001 01110 10001 10001 01110",
    "01110 10001 10001 01111 00001 00010 01100",
)

GLYPHS = [np.array([[255 * int(cell) for cell in row] for row in rows.split()], np.uint8) for rows in _GLYPH_ROWS]
"""Masks of the digits 0 to 9: uint8 [7, 5], drawn here so that no font file decides what a picture looks like."""
