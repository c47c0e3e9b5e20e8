"""Patch labels say what is where."""

from __future__ import annotations

from labels import UNTAUGHT, Label, patch_labels
from odd_colours import ODD
from runtime.demo.scene import Scene, Shape
from tiles import tile_count


def test_labels_of_one_shape_by_hand() -> None:
    """A large blue circle with a 7 in the middle of a grey square: 1 + 4 tiles, the centre patch of the base tile."""
    circle = Shape("circle", "blue", "large", 60, 56, 56, 0, (40, 90, 215), digit=7, digit_height=20)
    scene = Scene(112, 112, (circle,), "grey", (185, 185, 188), 0, 0)
    labels = patch_labels(scene)
    assert labels.shape == (tile_count(112, 112), 49, len(Label)) == (5, 49, 9)
    middle = labels[0, 24].tolist()
    assert middle == [1, 5, 2, UNTAUGHT, 1, 2, 5, 1, 1]  # circle, blue, large, -, a centre, grey, middle, first of one
    assert set(labels[1:, :, Label.DIGIT].flatten()) == {0, 8}
    assert labels[0, 0].tolist() == [0, 0, 0, 0, 0, 2, 0, 0, 1]
    assert set(labels[..., Label.SHAPE][labels[..., Label.PLACE] == 5]) == {1}


def test_shapes_are_numbered_in_reading_order_and_only_if_it_is_clear() -> None:
    """Two rows; then with a third shape half way between them, whose row nobody could tell."""

    def scene(*places: tuple[float, float]) -> Scene:
        shapes = tuple(Shape("circle", "red", "small", 16, x, y, 0, (255, 0, 0)) for x, y in places)
        return Scene(100, 100, shapes, "white", (255, 255, 255), 0, 0)

    clear = patch_labels(scene((80, 20), (20, 80)))
    assert set(clear[..., Label.ORDER].flatten()) == {0, 1, 2}
    assert set(clear[..., Label.COUNT].flatten()) == {2}
    disputed = patch_labels(scene((80, 20), (50, 35), (20, 80)))
    assert set(disputed[..., Label.ORDER].flatten()) == {0}
    assert set(disputed[..., Label.COUNT].flatten()) == {3}


def test_five_shapes_are_neither_counted_nor_numbered() -> None:
    """Answers go up to four."""
    shapes = tuple(Shape("circle", "red", "small", 12, 12 + 19 * k, 50, 0, (255, 0, 0)) for k in range(5))
    labels = patch_labels(Scene(100, 100, shapes, "white", (255, 255, 255), 0, 0))
    assert not labels[..., [Label.COUNT, Label.ORDER]].any()
    assert labels[..., Label.SHAPE].any()


def test_a_colour_without_a_name_is_not_taught() -> None:
    """The shape is."""
    shape = Shape("ring", ODD, "large", 50, 50, 50, 0, (0, 120, 120))
    labels = patch_labels(Scene(100, 100, (shape,), "white", (255, 255, 255), 0, 0))
    here = labels[..., Label.SHAPE] > 0
    assert here.any()
    assert set(labels[here][:, Label.COLOUR]) == {UNTAUGHT}
    assert set(labels[~here][:, Label.COLOUR]) == {0}
