"""Pictures full of small shapes, for the tower only: what it tells apart last, and elsewhere too rare."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from free_scene import SMALLEST, sample_background, sample_pair, sample_shape, sample_size, styled
from runtime.demo.scene import Scene, Shape

LARGEST_CELL = 0.25
"""Of the picture's longer side."""

EMPTY_SHARE = 0.2
"""Of the cells, so that a shape is not always surrounded."""


def sample_shape_sheet(rng: Random) -> Scene:
    """Return a picture of any size whose cells have a shape each, from the smallest that is promised."""
    width, height = sample_size(rng)
    background, background_rgb = sample_background(rng)
    while not (shapes := tuple(_sample_shapes(rng, width, height))):
        pass
    return Scene(
        width=width,
        height=height,
        shapes=shapes,
        background=background,
        background_rgb=background_rgb,
        noise=rng.choice((0, 0, 3, 8)),
        noise_seed=rng.randrange(1 << 30),
    )


def _sample_shapes(rng: Random, width: int, height: int) -> Iterator[Shape]:
    long = max(width, height)
    cell = rng.uniform(1.25 * SMALLEST, LARGEST_CELL) * long
    columns, rows = max(1, int(width / cell)), max(1, int(height / cell))
    cell_width, cell_height = width / columns, height / rows
    for place in range(rows * columns):
        if rng.random() < EMPTY_SHARE:
            continue
        diameter = max(SMALLEST * long, cell * rng.uniform(0.6, 0.88))
        play_x, play_y = ((side - 1.08 * diameter) / 2 for side in (cell_width, cell_height))
        x = (place % columns + 0.5) * cell_width + rng.uniform(-play_x, play_x)
        y = (place // columns + 0.5) * cell_height + rng.uniform(-play_y, play_y)
        pair = sample_pair(rng, forced=False, any_pair=False)
        yield styled(rng, sample_shape(rng, pair, (x, y, diameter), (width, height)), diameter / long)
