"""What is in a picture: shapes of given kinds, colours, sizes and places on a background.

The order in which random numbers are drawn is part of the contract: a seed names the same scene as long as
the model's tiles, which decide where digits fit, stay what they are. So accuracies measured on a seed can be compared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from random import Random

from runtime.demo.anyres import TILE, canvas_size, fitted_size, margin
from runtime.demo.vocabulary import BACKGROUNDS, COLOURS, HELD_OUT, SHAPES

Rgb = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Shape:
    """One shape; lengths and places are in pixels of the picture, from its top left."""

    kind: str
    colour: str
    size: str
    """`large`, `small`, or `medium` for neither."""
    diameter: float
    x: float
    """Of the centre."""
    y: float
    rotation: float
    """Degrees, clockwise."""
    rgb: Rgb
    digit: int | None = None
    digit_height: float = 0.0
    typeface: str = "pixel"
    """Of the digit: `pixel`, `sans`, `bold`, or one of `drawing.PENS`."""
    stroke: float = 0.0
    """Share of the diameter that an outline is wide; 0 is a filled shape, and a ring of the usual width."""
    edge: Rgb | None = None
    """Colour of a thin line around a filled shape."""

    @property
    def name(self) -> str:
        """Colour and kind, as in "red circle"."""
        return f"{self.colour} {self.kind}"


@dataclass(frozen=True, slots=True)
class Scene:
    """All that is needed to draw a picture and to answer questions about it."""

    width: int
    height: int
    shapes: tuple[Shape, ...]
    """Row by row from the top left."""
    background: str
    background_rgb: Rgb
    noise: int
    """Standard deviation of the background's noise in grey levels; 0 is plain."""
    noise_seed: int


def scene_of_seed(seed: int) -> Scene:
    """Return the scene that a seed names, without held-out pairs."""
    return sample_scene(Random(seed))


def sample_scene(rng: Random, *, held_out: bool = False, crowded: bool = False) -> Scene:
    """Return a random scene.

    Without `held_out` no shape is of a held-out (colour, shape) pair, with it at least one is.
    `crowded` puts a shape in every cell of the layout and a digit on every shape that can carry one.
    """
    width, height = _sample_size(rng)
    rows, columns = _sample_layout(rng, width / height)
    cells = [(row, column) for row in range(rows) for column in range(columns)]
    count = len(cells) if crowded else rng.choice((1, 2, 2, 3, 3, 4))
    cells = sorted(rng.sample(cells, min(count, len(cells))))
    forced = rng.randrange(len(cells)) if held_out else None

    shapes = []
    for place, (row, column) in enumerate(cells):
        kind, colour = _sample_pair(rng, forced=place == forced, any_pair=held_out)
        cell = (column * width / columns, row * height / rows, width / columns, height / rows)
        shapes.append(_sample_shape(rng, kind, colour, cell, (width, height)))
    shapes = _number_shapes(rng, shapes, (width, height), crowded=crowded)

    background = rng.choice(tuple(BACKGROUNDS))
    return Scene(
        width=width,
        height=height,
        shapes=tuple(shapes),
        background=background,
        background_rgb=_jittered(rng, BACKGROUNDS[background], -8, 5),
        noise=rng.choice((0, 0, 4, 9)),
        noise_seed=rng.randrange(1 << 30),
    )


def _sample_size(rng: Random) -> tuple[int, int]:
    """Return (width, height): a side of 96 to 250 pixels before an aspect ratio of up to 3.2 either way."""
    class_of_ratio = rng.random()
    if class_of_ratio < 0.40:
        ratio = rng.uniform(0.8, 1.25)
    elif class_of_ratio < 0.76:
        ratio = rng.uniform(1.34, 2.2)
    else:
        ratio = rng.uniform(2.3, 3.2)
    if rng.random() < 0.5:
        ratio = 1 / ratio
    side = rng.uniform(96, 250)
    return max(48, round(side * math.sqrt(ratio))), max(48, round(side / math.sqrt(ratio)))


def _sample_layout(rng: Random, ratio: float) -> tuple[int, int]:
    """Return (rows, columns) of the cells that shapes are put in."""
    stretch = max(ratio, 1 / ratio)
    if stretch <= 1.33:
        return rng.choice(((3, 3), (3, 3), (2, 2)))
    layout = (2, 3) if stretch <= 2.28 else (1, 3)
    return layout if ratio >= 1 else (layout[1], layout[0])


def _sample_pair(rng: Random, *, forced: bool, any_pair: bool) -> tuple[str, str]:
    """Return (kind, colour): a held-out pair if forced, else one that is not held out unless any pair will do."""
    while True:
        kind, colour = rng.choice(SHAPES), rng.choice(tuple(COLOURS))
        if forced:
            colour, kind = rng.choice(sorted(HELD_OUT))
        if any_pair or (colour, kind) not in HELD_OUT:
            return kind, colour


def _sample_shape(
    rng: Random, kind: str, colour: str, cell: tuple[float, float, float, float], size: tuple[int, int]
) -> Shape:
    """Return a shape near the middle of its cell (left, top, width, height)."""
    left, top, cell_width, cell_height = cell
    width, height = size
    side = math.sqrt(width * height)
    large = rng.random() < 0.6
    diameter = side * (rng.uniform(0.27, 0.31) if large else rng.uniform(0.145, 0.17))
    play_x = min(max(0, (cell_width - diameter) / 2 - 1), 0.06 * width)
    play_y = min(max(0, (cell_height - diameter) / 2 - 1), 0.06 * height)
    return Shape(
        kind=kind,
        colour=colour,
        size="large" if large else "small",
        diameter=diameter,
        x=left + 0.5 * cell_width + rng.uniform(-play_x, play_x),
        y=top + 0.5 * cell_height + rng.uniform(-play_y, play_y),
        rotation=rng.uniform(-8, 8),
        rgb=_jittered(rng, COLOURS[colour], -16, 16),
    )


def _jittered(rng: Random, rgb: Rgb, low: int, high: int) -> Rgb:
    """Return the colour with a random step on each channel."""
    red, green, blue = (max(0, min(255, value + rng.randint(low, high))) for value in rgb)
    return red, green, blue


def _number_shapes(rng: Random, shapes: list[Shape], size: tuple[int, int], *, crowded: bool) -> list[Shape]:
    """Return the shapes, a few of the large ones with a digit that is 13.5 to 16.5 pixels high in the fine tiles."""
    width, height = size
    canvas = canvas_size(height, width)
    scale = min(canvas[0] / height, canvas[1] / width)
    top, left = margin(fitted_size(height, width, canvas), canvas)

    def lies_in_one_tile(shape: Shape) -> bool:
        x, y = shape.x * scale + left, (shape.y + 0.05 * shape.diameter) * scale + top
        return 7.5 < x % TILE < TILE - 7.5 and 12 < y % TILE < TILE - 12

    able = [place for place, shape in enumerate(shapes) if shape.size == "large" and lies_in_one_tile(shape)]
    numbered = list(shapes)
    if able and (crowded or rng.random() < 0.7):
        count = len(able) if crowded else min(len(able), rng.choice((1, 1, 2)))
        for place in rng.sample(able, count):
            digit, digit_height = rng.randint(0, 9), rng.uniform(13.5, 16.5) / scale
            numbered[place] = replace(shapes[place], digit=digit, digit_height=digit_height)
    return numbered
