"""A second source of pictures, for measuring only: SVG, drawn by resvg, with other shapes, digits and habits.

Nothing here is shared with the pictures of training but the names of things. A model that is right on these has learnt
what a star is and not how `runtime.demo.drawing` draws one.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from random import Random

from PIL import Image
from resvg_py import svg_to_bytes
from runtime.demo.anyres import TILE, canvas_size, fitted_size, margin
from runtime.demo.scene import Scene, Shape
from runtime.demo.truth import LARGEST_DIGIT, SMALLEST_DIGIT, in_reading_order, size_of
from runtime.demo.vocabulary import COLOURS, HELD_OUT, SHAPES

_COLOURS = {
    "red": ("red", "red", "crimson", "firebrick", "#e53935"),
    "orange": ("orange", "orange", "darkorange", "#fb8c00"),
    "yellow": ("yellow", "yellow", "gold", "#fdd835"),
    "green": ("green", "green", "forestgreen", "limegreen", "mediumseagreen", "#43a047"),
    "blue": ("blue", "blue", "royalblue", "dodgerblue", "mediumblue", "#1e88e5"),
    "purple": ("purple", "purple", "darkviolet", "indigo", "#8e24aa"),
    "pink": ("pink", "pink", "hotpink", "lightpink"),
    "black": ("black", "black", "#1a1a1a"),
}
_BACKGROUNDS = {
    "white": ("white", "white", "snow"),
    "grey": ("grey", "darkgrey", "silver", "lightgrey"),
    "beige": ("beige", "wheat", "antiquewhite"),
}

# Corners and curves on a square of side 100 with the origin in its middle.
_OUTLINES = {
    "circle": '<circle r="50"',
    "square": '<rect x="-43" y="-43" width="86" height="86"',
    "triangle": '<path d="M0-48 49 40H-49Z"',
    "star": '<path d="M0-50 12-16 48-15 19 6 29 40 0 20-29 40-19 6-48-15-12-16Z"',
    "heart": '<path d="M0 45C-70-5-40-52 0-24 40-52 70-5 0 45Z"',
    "diamond": '<path d="M0-50 38 0 0 50-38 0Z"',
    "cross": '<path d="M-16-48H16V-16H48V16H16V48H-16V16H-48V-16H-16Z"',
    "ring": '<circle r="42"',
}

_DIGIT_SHARE, _DIGIT_SHARE_OF_A_STAR = 0.42, 0.34
"""Height of the largest digit by diameter: it lies within the shape, or it would be white on white here and there."""

# Strokes of the digits on a field of 6 by 10.
_DIGITS = (
    "M3 0C-1 0-1 10 3 10 7 10 7 0 3 0Z",
    "M1 2 3.5 0V10",
    "M.3 2.5C.3-1 6-1 5.7 2.8 5.5 5 1.5 7 0 10H6",
    "M.3 1.2C2-.8 5.7-.3 5.5 2.5 5.3 4.5 3.5 4.8 2.2 4.8 4 4.8 6 5.5 5.9 7.4 5.8 10.4 1.5 10.8 0 8.8",
    "M4.4 10V0L0 7H6",
    "M5.5 0H1.2L.7 4.5C2.5 3.2 6 3.6 6 6.8 6 10.4 1.5 10.7 0 8.8",
    "M5 .3C1.5 1 0 4.5.2 7 .4 11 6 11 6 7 6 3.5 1.2 3.5.3 6.5",
    "M0 0H6L2 10",
    "M3 4.6C-.6 4.6-.2 0 3 0 6.2 0 6.6 4.6 3 4.6-1 4.6-1 10 3 10 7 10 7 4.6 3 4.6Z",
    "M5.8 3C5.6-1 0-1 0 3 0 6.3 4.8 6.5 5.7 3.5 6.2 6 4.5 9.5 1.5 10",
)


@dataclass(frozen=True, slots=True)
class SvgPicture:
    """A picture and what is in it."""

    scene: Scene
    svg: str
    quality: int | None
    """Of the JPEG it was stored as; None for PNG."""

    def render(self) -> Image.Image:
        """Return the picture, mode RGB."""
        image = Image.open(io.BytesIO(bytes(svg_to_bytes(svg_string=self.svg)))).convert("RGB")
        if self.quality is None:
            return image
        data = io.BytesIO()
        image.save(data, "JPEG", quality=self.quality)
        return Image.open(data).convert("RGB")


def sample_svg(rng: Random, *, held_out: bool = False) -> SvgPicture:
    """Return a random picture; without `held_out` of no held-out pair, with it of at least one."""
    long = rng.randint(120, 800)
    width, height = long, round(long / rng.triangular(1, 3, 1.2))
    if rng.random() < 0.5:
        width, height = height, width
    background = rng.choice(tuple(_BACKGROUNDS))
    while not (circles := _sample_circles(rng, rng.randint(1, 4), width, height)):
        pass
    special = rng.randrange(len(circles))
    shapes = []
    for place, (x, y, diameter) in enumerate(circles):
        while True:
            kind, colour = rng.choice(SHAPES), rng.choice(tuple(COLOURS))
            if ((colour, kind) in HELD_OUT) == (held_out and place == special) or (held_out and place != special):
                break
        size = size_of(diameter, width, height)
        shapes.append(Shape(kind, colour, size, diameter, x, y, rng.uniform(-5, 5), rgb=(0, 0, 0)))
    ordered = in_reading_order(shapes, height)
    numbered = [place for place, shape in enumerate(ordered) if _digit_room(shape, width, height) >= SMALLEST_DIGIT]
    digits: dict[int, int] = {}
    if numbered and rng.random() < 0.6:
        digits[rng.choice(numbered)] = rng.randint(0, 9)
    body, told = [], []
    for place, shape in enumerate(ordered):
        digit = digits.get(place)
        body.append(_drawn(rng, shape, digit, width, height))
        told.append(Shape(**{name: getattr(shape, name) for name in _TOLD}, digit=digit))
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">'
        f'<rect width="100%" height="100%" fill="{rng.choice(_BACKGROUNDS[background])}"/>{"".join(body)}</svg>'
    )
    scene = Scene(width, height, tuple(told), background, (0, 0, 0), 0, 0)
    return SvgPicture(scene, svg, rng.choice((None, None, 60, 85)))


_TOLD = ("kind", "colour", "size", "diameter", "x", "y", "rotation", "rgb")


def _sample_circles(rng: Random, count: int, width: int, height: int) -> list[tuple[float, float, float]]:
    """Return (x, y, diameter) of circles that do not touch, 8 % of the long side to 80 % of the short; or nothing."""
    short, long = min(width, height), max(width, height)
    circles: list[tuple[float, float, float]] = []
    for _ in range(count):
        low, high = rng.choice(((8, 14), (14, 30), *2 * ((30, 80 / math.sqrt(count)),)))
        diameter = min(max(rng.uniform(low, high) / 100 * short, 0.08 * long), 0.8 * short)
        x = rng.uniform(diameter * 0.55, width - diameter * 0.55)
        y = rng.uniform(diameter * 0.55, height - diameter * 0.55)
        if any(math.dist((x, y), other[:2]) < 0.55 * (diameter + other[2]) + 0.02 * long for other in circles):
            return []
        circles.append((x, y, diameter))
    return circles


def _digit_room(shape: Shape, width: int, height: int) -> float:
    """Return how high a digit in the shape's middle can be within one fine tile, in pixels of the tile."""
    canvas = canvas_size(height, width)
    scale = min(canvas[0] / height, canvas[1] / width)
    top, left = margin(fitted_size(height, width, canvas), canvas)
    x, y = (shape.x * scale + left) % TILE, (_digit_middle(shape) * scale + top) % TILE
    room_x, room_y = min(x, TILE - x), min(y, TILE - y)
    share = _DIGIT_SHARE_OF_A_STAR if shape.kind == "star" else _DIGIT_SHARE
    return min(LARGEST_DIGIT, share * shape.diameter * scale, 2 * room_y - 6, 2.6 * room_x - 3)


def _digit_middle(shape: Shape) -> float:
    return shape.y + (0.11 * shape.diameter if shape.kind == "triangle" else 0)


def _drawn(rng: Random, shape: Shape, digit: int | None, width: int, height: int) -> str:
    """Return the shape as SVG, filled, with a border or as an outline; never a circle or a numbered shape as one."""
    share = shape.diameter / max(width, height)
    colour = rng.choice(_COLOURS[shape.colour])
    style = rng.random()
    if shape.kind == "ring":
        paint = f'fill="none" stroke="{colour}" stroke-width="{rng.uniform(12, 18):.1f}"'
    elif style < 0.2 and share > 0.2 and shape.kind != "circle" and digit is None:
        paint = f'fill="none" stroke="{colour}" stroke-width="{rng.uniform(7, 11):.1f}" stroke-linejoin="round"'
    elif style < 0.4 and share > 0.15:
        paint = f'fill="{colour}" stroke="{rng.choice(("black", "#333"))}" stroke-width="{rng.uniform(3, 5):.1f}"'
    else:
        paint = f'fill="{colour}"'
    scale = shape.diameter / 100
    place = f'transform="translate({shape.x:.2f} {shape.y:.2f}) rotate({shape.rotation:.1f}) scale({scale:.4f})"'
    drawn = f"<g {place}>{_OUTLINES[shape.kind]} {paint}/></g>"
    if digit is None:
        return drawn
    canvas = canvas_size(height, width)
    room = _digit_room(shape, width, height)
    tall = rng.uniform(SMALLEST_DIGIT, room) / min(canvas[0] / height, canvas[1] / width)
    ink = "black" if shape.kind == "ring" or shape.colour in ("yellow", "orange", "pink") else "white"
    unit = tall / 11.4  # ten units and the width of the stroke
    corner = f"translate({shape.x - 3 * unit:.2f} {_digit_middle(shape) - 5 * unit:.2f}) scale({unit:.4f})"
    stroke = f'fill="none" stroke="{ink}" stroke-width="{rng.uniform(1.2, 1.7):.2f}" stroke-linecap="round"'
    return f'{drawn}<path d="{_DIGITS[digit]}" transform="{corner}" {stroke} stroke-linejoin="round"/>'
