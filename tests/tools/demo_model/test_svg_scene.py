"""The second source of pictures says what it shows."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from runtime.demo.vocabulary import HELD_OUT
from svg_scene import SvgPicture, sample_svg

seeds = st.integers(0, 2**31 - 1)


def pairs(picture: SvgPicture) -> set[tuple[str, str]]:
    """The (colour, shape) pairs shown."""
    return {(shape.colour, shape.kind) for shape in picture.scene.shapes}


@settings(max_examples=30)
@given(seeds)
def test_a_picture_has_the_size_and_the_pairs_that_it_tells(seed: int) -> None:
    """Held-out pairs only when asked for."""
    picture = sample_svg(Random(seed))
    assert picture.render().size == (picture.scene.width, picture.scene.height)
    assert HELD_OUT.isdisjoint(pairs(picture))
    assert not HELD_OUT.isdisjoint(pairs(sample_svg(Random(seed), held_out=True)))


def test_a_shape_is_where_the_scene_says() -> None:
    """A single filled shape on white: the picture is white but for a box around the shape's centre."""
    found = 0
    for seed in range(200):
        picture = sample_svg(Random(seed))
        if len(picture.scene.shapes) > 1 or picture.scene.background != "white" or picture.quality:
            continue
        shape = picture.scene.shapes[0]
        left, top, right, bottom = picture.render().convert("L").point(lambda grey: 255 * (grey < 245)).getbbox() or (
            (0,) * 4
        )
        reach = 0.58 * shape.diameter + 1
        assert shape.x - reach <= left < right <= shape.x + reach, seed
        assert shape.y - reach <= top < bottom <= shape.y + reach, seed
        assert right - left > 0.6 * shape.diameter
        found += 1
    assert found >= 5
