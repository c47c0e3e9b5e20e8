"""Colours that have no name here, so that the tower learns what a heart is and not which colours it comes in."""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random

from free_scene import CSS
from runtime.demo.scene import Scene, Shape
from runtime.demo.vocabulary import COLOURS, HELD_OUT

ODD = "odd"
"""The name, in training only, of a colour that is not to be named."""

ODD_SHARE = 0.4
"""Of the shapes of a crowded picture."""

LIGHTEST = 160
"""Grey level up to which white digits and pale backgrounds differ enough."""

FAR = 90
"""Distance in RGB from every shade of a colour at which nobody would call it so."""


def oddly_coloured(scene: Scene, rng: Random) -> Scene:
    """Return the scene with some of its shapes in colours without a name."""
    shapes = (_recoloured(scene, shape, rng) if rng.random() < ODD_SHARE else shape for shape in scene.shapes)
    return replace(scene, shapes=tuple(shapes))


def _recoloured(scene: Scene, shape: Shape, rng: Random) -> Shape:
    """Return the shape in a random colour, but far from the one that is held out with its kind."""
    shades = [rgb for colour, kind in HELD_OUT if kind == shape.kind for rgb in (COLOURS[colour], *CSS[colour])]
    while True:
        rgb = (rng.randrange(256), rng.randrange(256), rng.randrange(256))
        is_told_apart = math.dist(rgb, scene.background_rgb) > FAR and sum(rgb) / 3 <= LIGHTEST
        if is_told_apart and all(math.dist(rgb, shade) > FAR for shade in shades):
            return replace(shape, colour=ODD, rgb=rgb)
