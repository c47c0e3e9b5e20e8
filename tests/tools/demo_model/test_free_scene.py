"""Free pictures: shapes of all sizes anywhere, that never touch."""

from __future__ import annotations

import itertools
import math
from random import Random

from free_scene import SMALLEST, TYPEFACES, sample_free_scene
from hypothesis import given, settings
from hypothesis import strategies as st
from runtime.demo.anyres import canvas_size
from runtime.demo.drawing import draw
from runtime.demo.scene import Shape
from runtime.demo.truth import LARGEST_DIGIT, SMALLEST_DIGIT
from runtime.demo.vocabulary import HELD_OUT

seeds = st.integers(0, 2**31 - 1)


@settings(max_examples=60)
@given(seeds, st.booleans())
def test_shapes_lie_within_the_picture_and_apart(seed: int, crowded: bool) -> None:
    """And are no smaller than the smallest that is promised."""
    scene = sample_free_scene(Random(seed), crowded=crowded)
    assert (5 <= len(scene.shapes) <= 9) if crowded else (1 <= len(scene.shapes) <= 4)
    for shape in scene.shapes:
        reach = shape.diameter / 2
        assert reach <= shape.x <= scene.width - reach
        assert reach <= shape.y <= scene.height - reach
        assert shape.diameter >= SMALLEST * max(scene.width, scene.height) - 1e-6
    for one, other in itertools.combinations(scene.shapes, 2):
        assert math.dist((one.x, one.y), (other.x, other.y)) > (one.diameter + other.diameter) / 2
    assert draw(scene).size == (scene.width, scene.height)


@given(seeds)
def test_held_out_pairs_are_shown_only_when_asked_for(seed: int) -> None:
    """Then at least one."""

    def pairs(held_out: bool) -> set[tuple[str, str]]:
        return {(s.colour, s.kind) for s in sample_free_scene(Random(seed), held_out=held_out).shapes}

    assert HELD_OUT.isdisjoint(pairs(held_out=False))
    assert not HELD_OUT.isdisjoint(pairs(held_out=True))


@given(seeds)
def test_digits_are_as_high_as_is_told_of_them(seed: int) -> None:
    """In the fine tiles."""
    scene = sample_free_scene(Random(seed), crowded=True)
    canvas = canvas_size(scene.height, scene.width)
    scale = min(canvas[0] / scene.height, canvas[1] / scene.width)
    heights = [shape.digit_height * scale for shape in scene.shapes if shape.digit is not None]
    assert all(SMALLEST_DIGIT - 1e-6 <= height <= LARGEST_DIGIT + 1e-6 for height in heights)


def test_pictures_are_as_various_as_people_make_them() -> None:
    """Of 300: sizes of shapes, the shape of the picture, outlines, edges, and numbers in every typeface."""
    scenes = [sample_free_scene(Random(seed)) for seed in range(300)]
    shapes: list[Shape] = [shape for scene in scenes for shape in scene.shapes]
    shares = [shape.diameter / min(s.width, s.height) for s in scenes for shape in s.shapes]
    assert min(shares) < 0.12
    assert max(shares) > 0.7
    assert max(max(s.width, s.height) / min(s.width, s.height) for s in scenes) > 2.7
    assert {shape.typeface for shape in shapes if shape.digit is not None} == set(TYPEFACES)
    assert any(shape.edge for shape in shapes)
    assert any(shape.stroke for shape in shapes if shape.kind == "square")
    assert not any(shape.stroke for shape in shapes if shape.kind == "circle")
