"""Every size that a picture may have, to a canvas and its features."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime import geometry as ours
from runtime.backend import ImageGeometry
from runtime.intake.limits import IntakeLimits
from support.geometries import DEMO_IMAGES, LLAVA_IMAGES

LIMITS = IntakeLimits()
SIDES = st.integers(LIMITS.min_side, 2**16) | st.integers(LIMITS.min_side, LIMITS.max_pixels // LIMITS.min_side)


@st.composite
def sizes(draw: st.DrawFn) -> tuple[int, int]:
    """Height and width within the limits of pictures; some are very thin."""
    one = draw(SIDES)
    other = draw(st.integers(LIMITS.min_side, LIMITS.max_pixels // one))
    return (one, other) if draw(st.booleans()) else (other, one)


@pytest.mark.parametrize("geometry", [LLAVA_IMAGES, DEMO_IMAGES], ids=["llava", "demo"])
def test_sizes(geometry: ImageGeometry) -> None:
    """Canvas and picture in it are transformers'; what is kept of the canvas is within it, and around the picture."""
    from transformers.image_processing_utils import get_patch_output_size, select_best_resolution
    from transformers.image_utils import ChannelDimension

    patch = geometry.patch

    class Shape:
        def __init__(self, size: tuple[int, int]) -> None:
            self.shape = (3, *size)

    @given(sizes())
    def check(size: tuple[int, int]) -> None:
        canvas = ours.canvas_size(size, geometry)
        assert canvas == select_best_resolution(size, geometry.pinpoints)
        fitted: Any = ours.fitted_size(size, geometry)
        assert fitted == get_patch_output_size(Shape(size), canvas, ChannelDimension.FIRST)
        kept = ours.unpadded_grid(size, geometry)
        for side, most, cells in zip(fitted, canvas, kept, strict=True):
            assert 1 <= side <= most
            assert 0 <= cells <= most // patch
            assert abs(cells * patch - side) <= 2 * patch
        assert ours.feature_count(size, geometry) == ours.base_count(geometry) + kept[0] * (kept[1] + 1)

    check()
