"""Drawing a scene with Pillow."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from runtime.demo.outline import GLYPHS, HOLE_RADIUS, POLYGONS, RADIUS, STROKES, rotated
from runtime.demo.scene import Scene, Shape

SUPERSAMPLING = 3

EDGE = 0.05
"""Share of the diameter that the line around a filled shape is wide."""

PENS = {"pen": (0.15, 0.0), "thin": (0.10, 0.0), "slanted": (0.13, 0.2)}
"""Of the typefaces that are written: how wide the line is, and how far a digit leans to the right, in heights."""

_PALE = ("yellow", "orange", "pink")


@dataclass(frozen=True, slots=True)
class Stencil:
    """Where a shape or digit lets its colour through."""

    mask: Image.Image
    """Mode L."""
    left: int
    top: int


def draw(scene: Scene) -> Image.Image:
    """Return the picture of a scene, mode RGB; the same scene always gives the same pixels."""
    image = _background(scene)
    for shape in scene.shapes:
        stencil = shape_stencil(shape)
        image.paste(shape.rgb, (stencil.left, stencil.top), stencil.mask)
        if shape.edge is not None:
            stencil = shape_stencil(replace(shape, stroke=EDGE))
            image.paste(shape.edge, (stencil.left, stencil.top), stencil.mask)
        if shape.digit is not None:
            stencil = digit_stencil(shape)
            dark = shape.kind == "ring" or shape.colour in _PALE
            image.paste((10, 10, 10) if dark else (250, 250, 250), (stencil.left, stencil.top), stencil.mask)
    return image


def shape_stencil(shape: Shape) -> Stencil:
    """Return the smoothed silhouette of a shape."""
    side = math.ceil(shape.diameter * 1.15) + 2
    left, top = math.floor(shape.x - side / 2), math.floor(shape.y - side / 2)
    mask = Image.new("L", (side * SUPERSAMPLING, side * SUPERSAMPLING), 0)
    pen = ImageDraw.Draw(mask)
    x, y = (shape.x - left) * SUPERSAMPLING, (shape.y - top) * SUPERSAMPLING
    unit = shape.diameter * SUPERSAMPLING
    if shape.kind in POLYGONS:
        corners = [(x + unit * u, y + unit * v) for u, v in rotated(POLYGONS[shape.kind], shape.rotation)]
        if shape.stroke:
            # The first two corners come again so that the first one is joined like all others.
            pen.line([*corners, *corners[:2]], fill=255, width=max(1, round(unit * shape.stroke)), joint="curve")
        else:
            pen.polygon(corners, fill=255)
    else:
        _disc(pen, x, y, unit * RADIUS, 255)
        if shape.stroke:
            _disc(pen, x, y, unit * (RADIUS - shape.stroke), 0)
        elif shape.kind == "ring":
            _disc(pen, x, y, unit * HOLE_RADIUS, 0)
    return Stencil(mask.resize((side, side), Image.Resampling.BOX), left, top)


def digit_stencil(shape: Shape) -> Stencil:
    """Return the silhouette of the digit that a shape carries."""
    if shape.digit is None:
        raise ValueError("the shape carries no digit")
    height = max(7, round(shape.digit_height))
    if shape.typeface == "pixel":
        width = max(5, round(height * 5 / 7))
        glyph = Image.fromarray(GLYPHS[shape.digit])
        mask = glyph.resize((width * 3, height * 3), Image.Resampling.NEAREST)
        mask = mask.resize((width, height), Image.Resampling.BOX)
    else:
        glyph = _glyph(shape.digit, shape.typeface)
        width = max(3, round(height * glyph.width / glyph.height))
        mask = glyph.resize((width, height), Image.Resampling.BOX)
    # A triangle is widest below its middle.
    middle = shape.y + (0.10 * shape.diameter if shape.kind == "triangle" else 0.0)
    return Stencil(mask, round(shape.x - width / 2), round(middle - height / 2))


@lru_cache(maxsize=64)
def _glyph(digit: int, typeface: str) -> Image.Image:
    """Return a digit, mode L, cut to its ink."""
    glyph = _written(digit, *PENS[typeface]) if typeface in PENS else _typeset(digit, bold=typeface == "bold")
    return glyph.crop(glyph.getbbox())


def _typeset(digit: int, *, bold: bool) -> Image.Image:
    """Return a digit in the typeface that Pillow brings."""
    canvas = Image.new("L", (160, 160), 0)
    ImageDraw.Draw(canvas).text((40, 20), str(digit), fill=255, font=ImageFont.load_default(96))
    return canvas.filter(ImageFilter.MaxFilter(7)) if bold else canvas


def _written(digit: int, width: float, lean: float) -> Image.Image:
    """Return a digit as a pen with a round tip writes it."""
    canvas = Image.new("L", (160, 160), 0)
    pen = ImageDraw.Draw(canvas)
    for line in STROKES[digit]:
        points = [(40 + 10 * x + 10 * lean * (10 - y), 30 + 10 * y) for x, y in line]
        pen.line(points, fill=255, width=round(100 * width), joint="curve")
        for x, y in (points[0], points[-1]):
            _disc(pen, x, y, 50 * width, 255)
    return canvas


def _background(scene: Scene) -> Image.Image:
    image = Image.new("RGB", (scene.width, scene.height), scene.background_rgb)
    if not scene.noise:
        return image
    noise = np.random.default_rng(scene.noise_seed).normal(0, scene.noise, (scene.height, scene.width, 3))
    return Image.fromarray(np.clip(np.asarray(image, np.float32) + noise, 0, 255).astype(np.uint8))


def _disc(pen: ImageDraw.ImageDraw, x: float, y: float, radius: float, fill: int) -> None:
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)
