"""Sheets of shapes: many of them, small, within the picture and apart."""

from __future__ import annotations

import itertools
import math
from random import Random

from free_scene import SMALLEST
from hypothesis import given, settings
from hypothesis import strategies as st
from runtime.demo.vocabulary import HELD_OUT
from shape_sheet import LARGEST_CELL, sample_shape_sheet


@settings(max_examples=60)
@given(st.integers(0, 2**31 - 1))
def test_shapes_are_small_and_apart(seed: int) -> None:
    """And no smaller than the smallest that is promised; no pair is held out."""
    scene = sample_shape_sheet(Random(seed))
    long = max(scene.width, scene.height)
    assert scene.shapes
    for shape in scene.shapes:
        assert (shape.colour, shape.kind) not in HELD_OUT
        assert SMALLEST * long <= shape.diameter <= LARGEST_CELL * long
        assert shape.diameter / 2 <= shape.x <= scene.width - shape.diameter / 2
        assert shape.diameter / 2 <= shape.y <= scene.height - shape.diameter / 2
    for one, other in itertools.combinations(scene.shapes, 2):
        assert math.dist((one.x, one.y), (other.x, other.y)) > (one.diameter + other.diameter) / 2
