"""The padding of a typical mix."""

from __future__ import annotations

import pytest
from runtime.backend import PrefillShape, ShapePlan
from runtime.shapes import PlannedShapes
from runtime.shapes.padding import MIX, padded_mix, padding_share, padding_share_alone
from support.geometries import LLAVA_IMAGES
from support.plans import GUIDE_PLAN


def test_the_mix_is_a_whole() -> None:
    """In percent."""
    assert sum(request.share for request in MIX) == 100


def test_padding_of_the_guide() -> None:
    """By hand: the photo has 40 + 2340 tokens, 19 x 128 = 2432 are computed; the text 200 of 256."""
    mix = padded_mix(LLAVA_IMAGES, PlannedShapes(GUIDE_PLAN))
    told = {each.request.name: (each.tokens, each.bucket, each.padding) for each in mix}
    assert len(told) == len(MIX)
    assert told["photo"] == (2380, 2432, 52)
    assert told["text alone"] == (200, 256, 56)
    assert padding_share(mix) < 0.05
    assert padding_share_alone(mix) == padding_share(mix)


def test_empty_rows_are_padding_too() -> None:
    """50 of 100 tokens in each of two rows is a half, and alone three quarters."""
    mix = padded_mix(None, PlannedShapes(ShapePlan(prefill=(PrefillShape(2, 400),))))
    assert [each.request.name for each in mix] == ["text alone"]
    assert padding_share(mix) == 0.5
    assert padding_share_alone(mix) == 0.75


@pytest.mark.parametrize("geometry", [None, LLAVA_IMAGES])
def test_requests_that_do_not_fit_are_left_out(geometry: object) -> None:
    """All of them, here."""
    assert geometry is None or geometry is LLAVA_IMAGES
    mix = padded_mix(LLAVA_IMAGES if geometry else None, PlannedShapes(ShapePlan(prefill=(PrefillShape(1, 100),))))
    assert mix == ()
    assert padding_share(mix) == padding_share_alone(mix) == 0
