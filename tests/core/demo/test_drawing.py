"""Drawing: pixels that never change, and shapes where the scene says."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from runtime.demo.drawing import PENS, digit_stencil, draw
from runtime.demo.scene import Scene, Shape, sample_scene
from runtime.demo.vocabulary import SHAPES


# From the program that drew the training pictures; the same with Pillow 11.3 and 13.0.
@pytest.mark.parametrize(
    ("seed", "held_out", "crowded", "digest"),
    [
        (0, False, False, "b978dfc733951605"),
        (2, False, False, "73838129f4d4e972"),
        (3, False, False, "4c01c68d4f20d0b1"),
        (5, False, False, "0e6534c8812508da"),
        (1, True, False, "6389861edeeb3d19"),
        (2, True, False, "8221098706472db8"),
        (1, False, True, "0c9f0d6e5f60b096"),
    ],
)
def test_pictures_are_those_of_training(seed: int, held_out: bool, crowded: bool, digest: str) -> None:
    """Pixel by pixel, plain and noisy, with every kind of shape among them."""
    scene = sample_scene(Random(seed), held_out=held_out, crowded=crowded)
    assert hashlib.sha256(draw(scene).tobytes()).hexdigest()[:16] == digest


@pytest.mark.parametrize("kind", SHAPES)
def test_a_shape_is_drawn_in_its_colour_around_its_centre(kind: str) -> None:
    """A large shape on a plain background: the centre is the shape's but for the ring's hole, the corner is not."""
    shape = Shape(kind, "red", "large", diameter=60, x=50, y=50, rotation=0, rgb=(214, 40, 40))
    image = draw(Scene(100, 100, (shape,), "white", (250, 250, 250), noise=0, noise_seed=0))
    assert image.getpixel((50, 50)) == ((250, 250, 250) if kind == "ring" else (214, 40, 40))
    assert image.getpixel((2, 2)) == (250, 250, 250)


@settings(max_examples=30)
@given(st.integers(0, 2**31 - 1))
def test_a_picture_has_the_size_of_its_scene(seed: int) -> None:
    """Whatever the scene."""
    scene = sample_scene(Random(seed))
    image = draw(scene)
    assert image.size == (scene.width, scene.height)
    assert image.mode == "RGB"


def test_a_shape_without_a_digit_has_no_stencil_for_one() -> None:
    """Asking for it is a mistake of the caller."""
    with pytest.raises(ValueError, match="no digit"):
        digit_stencil(Shape("star", "red", "large", 60, 50, 50, 0, (214, 40, 40)))


def test_an_outline_leaves_its_inside_and_an_edge_goes_around_its_fill() -> None:
    """A square of 60: colours in its middle and on its left side, which is 0.44 of the diameter from the middle."""

    def pixels(shape: Shape) -> tuple[object, object]:
        image = draw(Scene(100, 100, (shape,), "white", (255, 255, 255), noise=0, noise_seed=0))
        return image.getpixel((50, 50)), image.getpixel((50 - 26, 50))

    square = Shape("square", "red", "large", diameter=60, x=50, y=50, rotation=0, rgb=(255, 0, 0))
    assert pixels(square) == ((255, 0, 0), (255, 0, 0))
    assert pixels(replace(square, stroke=0.1)) == ((255, 255, 255), (255, 0, 0))
    assert pixels(replace(square, edge=(0, 0, 0))) == ((255, 0, 0), (0, 0, 0))


TYPEFACES = ("pixel", "sans", "bold", *PENS)


def stencil_of(digit: int, typeface: str) -> Image.Image:
    """A digit 20 pixels high."""
    shape = Shape("circle", "red", "large", 60, 50, 50, 0, (255, 0, 0), digit, digit_height=20, typeface=typeface)
    return digit_stencil(shape).mask


@pytest.mark.parametrize("typeface", TYPEFACES)
def test_a_digit_has_the_height_it_is_given(typeface: str) -> None:
    """Whatever the typeface."""
    assert {stencil_of(digit, typeface).height for digit in range(10)} == {20}


def test_every_digit_of_every_typeface_looks_different() -> None:
    """No two of the sixty have the same pixels."""
    drawn = [stencil_of(digit, typeface) for digit in range(10) for typeface in TYPEFACES]
    assert len({(mask.size, mask.tobytes()) for mask in drawn}) == len(drawn)
