"""What is true of a scene, and what is too near a border to be asked about."""

from __future__ import annotations

import pytest
from runtime.demo.scene import Scene, Shape
from runtime.demo.truth import in_reading_order, order_is_clear, place_is_clear, place_of, size_of


def at(x: float, y: float) -> Shape:
    """A shape of which only the place matters."""
    return Shape("circle", "red", "small", 10, x, y, 0, (255, 0, 0))


def scene(*shapes: Shape) -> Scene:
    """A picture of 200 x 100."""
    return Scene(200, 100, shapes, "white", (255, 255, 255), 0, 0)


@pytest.mark.parametrize(
    ("x", "y", "place"),
    [
        (20, 10, "at the top left"),
        (100, 10, "at the top"),
        (180, 50, "on the right"),
        (100, 50, "in the centre"),
        (20, 90, "at the bottom left"),
    ],
)
def test_a_place_is_a_ninth_of_the_picture(x: float, y: float, place: str) -> None:
    """In words."""
    assert place_of(scene(), at(x, y)) == place
    assert place_is_clear(scene(), at(x, y))


@pytest.mark.parametrize(("x", "y"), [(82, 50), (100, 63), (118, 10)])
def test_a_place_near_a_border_is_not_clear(x: float, y: float) -> None:
    """Borders are at 0.4 and 0.6 of each side."""
    assert not place_is_clear(scene(), at(x, y))


def test_reading_order_is_row_by_row_though_rows_are_not_straight() -> None:
    """Ten pixels of a hundred are one row."""
    first, second, third = at(20, 30), at(150, 20), at(10, 80)
    assert in_reading_order([third, second, first], 100) == [first, second, third]
    assert order_is_clear([third, second, first], 100)


def test_an_order_is_not_clear_when_rows_run_into_each_other() -> None:
    """Each is near the next, the last far from the first; or two are neither near nor far."""
    assert not order_is_clear([at(10, 20), at(60, 30), at(110, 40)], 100)
    assert not order_is_clear([at(10, 20), at(60, 35)], 100)


@pytest.mark.parametrize(("diameter", "size"), [(26, "small"), (30, "medium"), (37, "large")])
def test_size_is_told_by_the_area_of_the_picture(diameter: float, size: str) -> None:
    """200 x 100 is as large as a square of 141: 0.18, 0.21 and 0.26 of it."""
    assert size_of(diameter, 200, 100) == size
