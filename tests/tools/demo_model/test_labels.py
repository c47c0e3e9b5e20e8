"""Tiles and patch labels are those the tower was trained on."""

from __future__ import annotations

import hashlib
from random import Random

from labels import Label, patch_labels
from runtime.demo.drawing import draw
from runtime.demo.scene import Scene, Shape, sample_scene
from tiles import tile_count, tiles_of


def test_tiles_and_labels_are_those_of_training() -> None:
    """Digests from the program that trained the model; it added background and place later, so they are left out."""
    tiles, labels = hashlib.sha256(), hashlib.sha256()
    for crowded in (False, True):
        rng = Random(4)
        for _ in range(20):
            scene = sample_scene(rng, crowded=crowded)
            tiles.update(tiles_of(draw(scene)).tobytes())
            labels.update(patch_labels(scene)[..., : Label.CENTRE + 1].tobytes())
    assert tiles.hexdigest()[:16] == "694af4c8ae149fe6"
    assert labels.hexdigest()[:16] == "80c2aabdc3946235"


def test_labels_of_one_shape_by_hand() -> None:
    """A large blue circle with a 7 in the middle of a grey square: 1 + 4 tiles, the centre patch of the base tile."""
    circle = Shape("circle", "blue", "large", 60, 56, 56, 0, (40, 90, 215), digit=7, digit_height=20)
    scene = Scene(112, 112, (circle,), "grey", (185, 185, 188), 0, 0)
    labels = patch_labels(scene)
    assert labels.shape == (tile_count(112, 112), 49, len(Label)) == (5, 49, 7)
    middle = labels[0, 24].tolist()
    assert middle == [1, 5, 2, 8, 1, 2, 5]  # circle, blue, large, 7, a centre, grey, the middle ninth
    assert labels[0, 0].tolist() == [0, 0, 0, 0, 0, 2, 0]
    assert labels[1:, :, Label.PLACE].max() == 0
