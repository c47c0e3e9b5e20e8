"""What every patch of a picture shows: the dense labels that the tower and the language model are trained on."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import numpy.typing as npt
from PIL import Image
from runtime.demo.anyres import PATCH, TILE, canvas_size, fitted_size, margin
from runtime.demo.drawing import digit_stencil, shape_stencil
from runtime.demo.scene import Scene, Shape
from runtime.demo.truth import ninth_of, order_is_clear, place_is_clear
from runtime.demo.vocabulary import BACKGROUNDS, COLOURS, SHAPES
from tiles import GRID, tile_count, tiles_of

Labels = npt.NDArray[np.int8]

UNTAUGHT = -1
"""Of a patch that something is on of which nothing is to be learnt."""


class Label(IntEnum):
    """Column of a label; in each, class 0 is "nothing here" or "not to be told"."""

    SHAPE = 0
    COLOUR = 1
    SIZE = 2
    """Small, large; 0 for a medium shape."""
    DIGIT = 3
    """The digit plus one; untaught on the base tile, where no digit can be read."""
    CENTRE = 4
    """Whether the centre of a shape is here."""
    BACKGROUND = 5
    """Of the whole picture, on every patch."""
    PLACE = 6
    """Ninth of the picture that the centre of the shape here is in; 0 if it is near a border."""
    ORDER = 7
    """Which shape this is in reading order, from 1; 0 if the order is disputed."""
    COUNT = 8
    """Number of shapes in the picture, on every patch; 0 if there are more than four."""


OF_THE_PICTURE = (Label.PLACE, Label.ORDER, Label.COUNT)
"""Labels that need the whole picture: the tower can know them on the base tile only."""

CLASSES = (len(SHAPES) + 1, len(COLOURS) + 1, 3, 11, 2, len(BACKGROUNDS) + 1, 10, 5, 5)
"""Number of classes of each label."""

MOST = 4
"""Shapes that can be counted and ordered."""

_SHAPE_COVER = 0.10
_DIGIT_COVER = 0.20


def patch_labels(scene: Scene) -> Labels:
    """Return the labels of all patches: int8 [tiles, patches, labels]."""
    labels = np.zeros((tile_count(scene.height, scene.width), GRID * GRID, len(Label)), np.int8)
    shape_here, digit_here = _owners(scene)
    few = len(scene.shapes) <= MOST
    ordered = few and order_is_clear(scene.shapes, scene.height)
    for index, shape in enumerate(scene.shapes, 1):
        here = shape_here == index
        labels[here, Label.SHAPE] = SHAPES.index(shape.kind) + 1
        named = shape.colour in COLOURS
        labels[here, Label.COLOUR] = tuple(COLOURS).index(shape.colour) + 1 if named else UNTAUGHT
        labels[here, Label.SIZE] = ("medium", "small", "large").index(shape.size)
        if place_is_clear(scene, shape):
            row, column = ninth_of(scene, shape)
            labels[here, Label.PLACE] = 3 * row + column + 1
        if ordered:
            labels[here, Label.ORDER] = index
        if shape.digit is not None:
            labels[digit_here == index, Label.DIGIT] = shape.digit + 1
            labels[0, digit_here[0] == index, Label.DIGIT] = UNTAUGHT
        for tile, patch in _centres(scene, shape):
            labels[tile, patch, Label.CENTRE] = 1
    labels[..., Label.BACKGROUND] = tuple(BACKGROUNDS).index(scene.background) + 1
    labels[..., Label.COUNT] = len(scene.shapes) if few else 0
    return labels


def _owners(scene: Scene) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return which shape, from 1, covers most of each patch, and whose digit does: [tiles, patches], 0 is none."""
    shapes = Image.new("L", (scene.width, scene.height), 0)
    digits = Image.new("L", (scene.width, scene.height), 0)
    for index, shape in enumerate(scene.shapes, 1):
        stencil = shape_stencil(shape)
        solid = stencil.mask.point([255 if value > 127 else 0 for value in range(256)])
        shapes.paste(index, (stencil.left, stencil.top), solid)
        if shape.digit is not None:
            stencil = digit_stencil(shape)
            right, bottom = stencil.left + stencil.mask.width, stencil.top + stencil.mask.height
            digits.paste(index, (stencil.left, stencil.top, right, bottom))
    indexes = range(1, len(scene.shapes) + 1)
    digit_cover = _cover(digits, indexes)
    # A digit in a ring's hole still belongs to the ring; a shape's own pixels weigh a little more.
    shape_cover = _cover(shapes, indexes) + digit_cover * 0.999
    return _most(shape_cover, _SHAPE_COVER), _most(digit_cover, _DIGIT_COVER)


def _cover(owners: Image.Image, indexes: range) -> npt.NDArray[np.float64]:
    """Return the share of each patch that each index covers: [tiles, patches, indexes]."""
    tiles = tiles_of(owners, Image.Resampling.NEAREST)
    patches = tiles.reshape(-1, GRID, PATCH, GRID, PATCH).transpose(0, 1, 3, 2, 4)
    patches = patches.reshape(len(tiles), GRID * GRID, PATCH * PATCH)
    return np.stack([(patches == index).mean(-1) for index in indexes], -1)


def _most(cover: npt.NDArray[np.float64], least: float) -> npt.NDArray[np.int64]:
    """Return the index, from 1, that covers most of each patch, or 0 where none covers more than `least`."""
    return np.where(cover.max(-1) > least, cover.argmax(-1) + 1, 0)


def _centres(scene: Scene, shape: Shape) -> list[tuple[int, int]]:
    """Return (tile, patch) of a shape's centre in the base tile and in the fine tiles."""
    canvas = canvas_size(scene.height, scene.width)
    fitted = fitted_size(scene.height, scene.width, canvas)
    top, left = margin(fitted, canvas)
    x, y = shape.x / scene.width, shape.y / scene.height
    fine_x, fine_y = x * fitted[1] + left, y * fitted[0] + top
    fine_tile = 1 + int(fine_y // TILE) * (canvas[1] // TILE) + int(fine_x // TILE)
    return [(0, _patch_at(x * TILE, y * TILE)), (fine_tile, _patch_at(fine_x % TILE, fine_y % TILE))]


def _patch_at(x: float, y: float) -> int:
    return int(y // PATCH) * GRID + int(x // PATCH)
