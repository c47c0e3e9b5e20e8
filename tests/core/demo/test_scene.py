"""Scenes: a seed names one scene for ever, and held-out pairs stay out of training."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime.demo.scene import Scene, sample_scene, scene_of_seed
from runtime.demo.vocabulary import HELD_OUT

seeds = st.integers(0, 2**31 - 1)


def pairs(scene: Scene) -> list[tuple[str, str]]:
    """The (colour, shape) pairs of a scene."""
    return [(shape.colour, shape.kind) for shape in scene.shapes]


# From the program that drew the training pictures, before it was taken apart into this package.
@pytest.mark.parametrize(
    ("seed", "size", "names", "digits"),
    [
        (0, (79, 235), ["purple ring", "orange square", "red heart"], [3, None, None]),
        (3, (185, 193), ["blue ring", "pink triangle", "pink cross"], [4, None, None]),
        (5, (339, 171), ["red star", "blue cross", "red circle", "pink star"], [None, None, None, 7]),
    ],
)
def test_a_seed_names_the_scene_it_named_in_training(
    seed: int, size: tuple[int, int], names: list[str], digits: list[int | None]
) -> None:
    """Accuracies can be compared only while seeds keep their meaning."""
    scene = scene_of_seed(seed)
    assert (scene.width, scene.height) == size
    assert [shape.name for shape in scene.shapes] == names
    assert [shape.digit for shape in scene.shapes] == digits


@given(seeds)
def test_training_scenes_show_no_held_out_pair(seed: int) -> None:
    """Ordinary and crowded scenes both."""
    assert HELD_OUT.isdisjoint(pairs(scene_of_seed(seed)))
    assert HELD_OUT.isdisjoint(pairs(sample_scene(Random(seed), crowded=True)))


@given(seeds)
def test_held_out_scenes_show_at_least_one_held_out_pair(seed: int) -> None:
    """Else the held-out set would measure known pairs."""
    assert not HELD_OUT.isdisjoint(pairs(sample_scene(Random(seed), held_out=True)))


@given(seeds)
def test_scenes_stay_within_their_bounds(seed: int) -> None:
    """One to four shapes, centres inside, digits on large shapes only."""
    scene = scene_of_seed(seed)
    assert 1 <= len(scene.shapes) <= 4
    for shape in scene.shapes:
        assert 0 < shape.x < scene.width
        assert 0 < shape.y < scene.height
        assert shape.digit is None or shape.size == "large"


def test_there_is_one_held_out_pair_for_each_colour_and_each_shape() -> None:
    """The eight pairs that the documentation lists."""
    assert {f"{colour} {kind}" for colour, kind in HELD_OUT} == {
        "orange circle",
        "blue square",
        "black triangle",
        "yellow star",
        "purple heart",
        "red diamond",
        "green cross",
        "pink ring",
    }
