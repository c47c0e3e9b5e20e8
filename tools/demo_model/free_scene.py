"""Pictures as people draw them: shapes of any size anywhere, filled or as outlines, in colours that CSS names.

Three of four training pictures come from here, the others from the grids of `runtime.demo.scene`.
"""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random

from runtime.demo.anyres import TILE, canvas_size, fitted_size, margin
from runtime.demo.scene import Rgb, Scene, Shape
from runtime.demo.truth import LARGEST_DIGIT, SMALLEST_DIGIT, in_reading_order, order_is_clear, size_of
from runtime.demo.vocabulary import BACKGROUNDS, COLOURS, HELD_OUT, SHAPES

SMALLEST = 0.08
"""Of the picture's longer side."""

LARGEST = {1: 0.80, 2: 0.58, 3: 0.48, 4: 0.42}
"""Of the picture's shorter side, by the number of shapes."""

REACH = 0.54
"""Share of its diameter that a shape with its outline reaches from its centre at most."""

TYPEFACES = ("pixel", "sans", "bold", "pen", "thin", "slanted")
"""Of digits."""

CSS: dict[str, tuple[Rgb, ...]] = {
    "red": ((255, 0, 0), (255, 0, 0), (220, 20, 60), (178, 34, 34)),
    "orange": ((255, 165, 0), (255, 165, 0), (255, 140, 0)),
    "yellow": ((255, 255, 0), (255, 255, 0), (255, 215, 0)),
    "green": ((0, 128, 0), (0, 128, 0), (50, 205, 50), (34, 139, 34), (0, 255, 0), (46, 139, 87)),
    "blue": ((0, 0, 255), (0, 0, 255), (65, 105, 225), (30, 144, 255), (0, 0, 205)),
    "purple": ((128, 0, 128), (128, 0, 128), (148, 0, 211), (75, 0, 130), (102, 51, 153)),
    "pink": ((255, 192, 203), (255, 192, 203), (255, 105, 180), (255, 182, 193)),
    "black": ((0, 0, 0), (0, 0, 0), (17, 17, 17)),
}
"""What each colour may be: the CSS colour of that name, twice, and its relatives."""

CSS_BACKGROUNDS: dict[str, tuple[Rgb, ...]] = {
    "white": ((255, 255, 255), (255, 255, 255), (250, 250, 250)),
    "grey": ((128, 128, 128), (169, 169, 169), (192, 192, 192), (211, 211, 211)),
    "beige": ((245, 245, 220), (225, 205, 165), (245, 222, 179), (250, 235, 215)),
}


def sample_free_scene(
    rng: Random, *, held_out: bool = False, shapes: int | None = None, crowded: bool = False
) -> Scene:
    """Return a random scene of one to four shapes, or of that many.

    Without `held_out` no shape is of a held-out (colour, shape) pair, with it at least one is.
    `crowded` puts up to nine small shapes in the picture, for the tower only: no sentence is true of their order.
    """
    width, height = sample_size(rng)
    count = rng.randint(5, 9) if crowded else shapes or rng.choice((1, 1, 2, 2, 3, 3, 4))
    background, background_rgb = sample_background(rng)
    # Most pictures can be told in an order that nobody would dispute.
    must_be_clear = not crowded and rng.random() < 0.85
    while True:
        placed = _sample_places(rng, count, width, height)
        if not must_be_clear or order_is_clear(placed, height):
            break
    forced = rng.randrange(count) if held_out else None
    dressed = []
    for number, (x, y, diameter) in enumerate(placed):
        pair = sample_pair(rng, forced=number == forced, any_pair=held_out)
        bare = sample_shape(rng, pair, (x, y, diameter), (width, height))
        dressed.append(styled(rng, bare, diameter / max(width, height)))
    ordered = in_reading_order(dressed, height)
    return Scene(
        width=width,
        height=height,
        shapes=tuple(_numbered(rng, ordered, width, height, often=crowded)),
        background=background,
        background_rgb=background_rgb,
        noise=rng.choice((0, 0, 0, 0, 3, 8)),
        noise_seed=rng.randrange(1 << 30),
    )


def sample_size(rng: Random) -> tuple[int, int]:
    """Return (width, height): 96 to 330 pixels a side before an aspect ratio of up to 3:1 either way."""
    ratio = math.exp(rng.choice((rng.uniform(-0.3, 0.3), rng.uniform(-1.1, 1.1))))
    side = math.exp(rng.uniform(math.log(96), math.log(330)))
    return round(side * math.sqrt(ratio)), round(side / math.sqrt(ratio))


def sample_background(rng: Random) -> tuple[str, Rgb]:
    name = rng.choice(tuple(BACKGROUNDS))
    if rng.random() < 0.5:
        return name, rng.choice(CSS_BACKGROUNDS[name])
    return name, _jittered(rng, rng.choice((BACKGROUNDS[name], *CSS_BACKGROUNDS[name])), 6)


def _sample_places(rng: Random, count: int, width: int, height: int) -> list[tuple[float, float, float]]:
    """Return (x, y, diameter) of that many shapes that do not touch."""
    short, long = min(width, height), max(width, height)
    largest = LARGEST.get(count, 0.30)
    if count == 1 and rng.random() < 0.2:  # what a newcomer draws first
        return [(width / 2, height / 2, short * rng.uniform(0.2, largest))]
    aligned = rng.random() < 0.25
    line = rng.random()
    shrink = 1.0
    placed: list[tuple[float, float, float]] = []
    failures = 0
    while len(placed) < count:
        low, high = SMALLEST * long, max(SMALLEST * long, largest * short * shrink)
        diameter = math.exp(rng.uniform(math.log(low), math.log(high)))
        reach = REACH * diameter + 1
        x, y = rng.uniform(reach, width - reach), rng.uniform(reach, height - reach)
        if aligned and count <= 4:
            if width >= height:
                y = min(max(line * height, reach), height - reach)
            else:
                x = min(max(line * width, reach), width - reach)
        if all(
            math.hypot(x - other_x, y - other_y) > REACH * (diameter + other_diameter) + 0.015 * long
            for other_x, other_y, other_diameter in placed
        ):
            placed.append((x, y, diameter))
            continue
        failures += 1
        if failures % 40 == 0:
            placed, shrink = [], shrink * 0.85
    return placed


def sample_pair(rng: Random, *, forced: bool, any_pair: bool) -> tuple[str, str]:
    """Return (kind, colour): a held-out pair if forced, else one that is not held out unless any pair will do."""
    if forced:
        colour, kind = rng.choice(sorted(HELD_OUT))
        return kind, colour
    while True:
        kind, colour = rng.choice(SHAPES), rng.choice(tuple(COLOURS))
        if any_pair or (colour, kind) not in HELD_OUT:
            return kind, colour


def sample_rgb(rng: Random, colour: str) -> Rgb:
    choice = rng.random()
    if choice < 0.4:
        return rng.choice(CSS[colour])
    if choice < 0.7:
        return _jittered(rng, rng.choice(CSS[colour]), 12)
    return _jittered(rng, COLOURS[colour], 16)


def _jittered(rng: Random, rgb: Rgb, most: int) -> Rgb:
    red, green, blue = (max(0, min(255, value + rng.randint(-most, most))) for value in rgb)
    return red, green, blue


def sample_shape(
    rng: Random, pair: tuple[str, str], place: tuple[float, float, float], picture: tuple[int, int]
) -> Shape:
    """Return a plain shape of a kind and colour at (x, y, diameter) of a picture of (width, height), pixels."""
    (kind, colour), (x, y, diameter) = pair, place
    return Shape(
        kind=kind,
        colour=colour,
        size=size_of(diameter, *picture),
        diameter=diameter,
        x=x,
        y=y,
        rotation=rng.choice((0.0, rng.uniform(-8, 8))),
        rgb=sample_rgb(rng, colour),
    )


def styled(rng: Random, shape: Shape, share: float) -> Shape:
    """Return the shape filled, filled with an edge, or as an outline; `share` is that of the picture's longer side.

    A circle is never an outline: that is a ring. A small shape is filled, because its outline would be a blur.
    """
    if shape.kind == "ring":
        return replace(shape, stroke=rng.uniform(0.09, 0.2)) if share > 0.14 else shape
    style = rng.random()
    if style < 0.2 and share > 0.16 and shape.kind != "circle":
        return replace(shape, stroke=rng.uniform(0.06, 0.12) if share > 0.25 else rng.uniform(0.1, 0.14))
    if style < 0.4 and share > 0.14:
        dark = rng.choice(((0, 0, 0), (0, 0, 0), (40, 40, 40), tuple(value // 2 for value in shape.rgb)))
        red, green, blue = dark
        return replace(shape, edge=(red, green, blue))
    return shape


def _numbered(rng: Random, shapes: list[Shape], width: int, height: int, *, often: bool) -> list[Shape]:
    """Return the shapes, one or two with a digit, more often a small one, within one of the fine tiles."""
    canvas = canvas_size(height, width)
    scale = min(canvas[0] / height, canvas[1] / width)
    top, left = margin(fitted_size(height, width, canvas), canvas)
    able = []
    for place, shape in enumerate(shapes):
        highest = min(LARGEST_DIGIT, 0.42 * shape.diameter * scale)
        if highest < SMALLEST_DIGIT or (shape.stroke and shape.kind != "ring"):
            continue
        x, y = shape.x * scale + left, (shape.y + 0.05 * shape.diameter) * scale + top
        room_x = min(x % TILE, TILE - x % TILE)
        room_y = min(y % TILE, TILE - y % TILE)
        highest = min(highest, 2 * (room_x - 1.5) * 1.3, 2 * (room_y - 3))
        if highest >= SMALLEST_DIGIT:
            able.append((place, highest))
    numbered = list(shapes)
    if able and (often or rng.random() < 0.6):
        for place, highest in rng.sample(able, len(able) if often else min(len(able), rng.choice((1, 1, 1, 2)))):
            numbered[place] = replace(
                shapes[place],
                digit=rng.randint(0, 9),
                digit_height=rng.triangular(SMALLEST_DIGIT, highest, SMALLEST_DIGIT) / scale,
                typeface=rng.choice(TYPEFACES),
            )
    return numbered
