"""Odd colours stand out from the background and are never the held-out colour of their shape."""

from __future__ import annotations

import math
from random import Random

from free_scene import CSS, sample_free_scene
from hypothesis import given
from hypothesis import strategies as st
from odd_colours import FAR, ODD, oddly_coloured
from runtime.demo.vocabulary import HELD_OUT


@given(st.integers(0, 2**31 - 1))
def test_only_colours_change(seed: int) -> None:
    """Those that do are far from the background and from each shade that is held out with the shape."""
    rng = Random(seed)
    before = sample_free_scene(rng, crowded=True)
    after = oddly_coloured(before, rng)
    for old, new in zip(before.shapes, after.shapes, strict=True):
        assert (new.kind, new.x, new.y, new.diameter, new.digit) == (old.kind, old.x, old.y, old.diameter, old.digit)
        if new.colour == ODD:
            assert math.dist(new.rgb, before.background_rgb) > FAR
            held_out = [shade for colour, kind in HELD_OUT if kind == new.kind for shade in CSS[colour]]
            assert min(math.dist(new.rgb, shade) for shade in held_out) > FAR
        else:
            assert new == old
