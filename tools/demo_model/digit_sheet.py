"""Pictures full of digits, for the tower only: the finest of what there is to see, and elsewhere the rarest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random

from free_scene import TYPEFACES, sample_background, sample_pair, sample_shape
from runtime.demo.anyres import TILE
from runtime.demo.scene import Scene, Shape
from runtime.demo.truth import LARGEST_DIGIT, SMALLEST_DIGIT

SIDE = 2 * TILE
"""Of a sheet in pixels of its fine tiles."""

ZOOM = 0.7, 2.0
"""How many times as large a sheet may be drawn."""


def sample_digit_sheet(rng: Random) -> Scene:
    """Return a picture of four tiles, each with one large shape or four small ones, and a digit on all of them."""
    background, background_rgb = sample_background(rng)
    corners = [(x, y) for y in (0, TILE) for x in (0, TILE)]
    shapes = [shape for left, top in corners for shape in _sample_tile(rng, left, top)]
    side = round(SIDE * rng.uniform(*ZOOM))
    return Scene(
        width=side,
        height=side,
        shapes=tuple(_zoomed(shape, side / SIDE) for shape in shapes),
        background=background,
        background_rgb=background_rgb,
        noise=rng.choice((0, 0, 3, 8)),
        noise_seed=rng.randrange(1 << 30),
    )


def _sample_tile(rng: Random, left: int, top: int) -> Iterator[Shape]:
    cells = rng.choice((1, 2, 2))
    side = TILE / cells
    for row in range(cells):
        for column in range(cells):
            diameter = side * rng.uniform(0.80, 0.92) if cells == 2 else rng.uniform(36, 0.9 * side)
            play = (side - 1.08 * diameter) / 2
            x = left + (column + 0.5) * side + rng.uniform(-play, play)
            y = top + (row + 0.5) * side + rng.uniform(-play, play)
            yield _sample_shape(rng, x, y, diameter)


def _sample_shape(rng: Random, x: float, y: float, diameter: float) -> Shape:
    pair = sample_pair(rng, forced=False, any_pair=False)
    shape = sample_shape(rng, pair, (x, y, diameter), (SIDE, SIDE))
    height = rng.uniform(SMALLEST_DIGIT, min(LARGEST_DIGIT, max(SMALLEST_DIGIT, 0.42 * diameter)))
    return replace(shape, digit=rng.randint(0, 9), digit_height=height, typeface=rng.choice(TYPEFACES))


def _zoomed(shape: Shape, zoom: float) -> Shape:
    return replace(
        shape,
        x=zoom * shape.x,
        y=zoom * shape.y,
        diameter=zoom * shape.diameter,
        digit_height=zoom * shape.digit_height,
    )
