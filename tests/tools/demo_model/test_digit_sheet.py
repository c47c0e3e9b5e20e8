"""Digit sheets: every shape within its tile and with a digit that can be read there."""

from __future__ import annotations

from random import Random

from digit_sheet import SIDE, sample_digit_sheet
from hypothesis import given
from hypothesis import strategies as st
from runtime.demo.anyres import TILE, canvas_size
from runtime.demo.truth import LARGEST_DIGIT, SMALLEST_DIGIT
from runtime.demo.vocabulary import HELD_OUT


@given(st.integers(0, 2**31 - 1))
def test_every_shape_is_within_one_tile_and_carries_a_digit(seed: int) -> None:
    """And no pair is held out."""
    scene = sample_digit_sheet(Random(seed))
    assert canvas_size(scene.height, scene.width) == (SIDE, SIDE)
    zoom = scene.width / SIDE
    for shape in scene.shapes:
        assert (shape.colour, shape.kind) not in HELD_OUT
        assert shape.digit in range(10)
        assert SMALLEST_DIGIT - 1e-6 <= shape.digit_height / zoom <= LARGEST_DIGIT + 1e-6
        radius = shape.diameter / zoom / 2
        for middle in (shape.x / zoom, shape.y / zoom):
            assert radius <= middle % TILE <= TILE - radius
