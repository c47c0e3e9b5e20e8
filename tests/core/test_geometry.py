"""Any-resolution geometry, against transformers."""

from __future__ import annotations

import copy
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from runtime import demo
from runtime import geometry as ours
from runtime.backend import ImageGeometry
from support.geometries import DEMO_IMAGES, LLAVA_IMAGES

SIDES = st.integers(1, 2200)
GEOMETRIES = pytest.mark.parametrize("geometry", [LLAVA_IMAGES, DEMO_IMAGES], ids=["llava", "demo"])


@pytest.fixture(scope="session")
def processor() -> Any:
    """transformers' own preprocessing of the demo model: the oracle."""
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(demo.MODEL)


def explicit(test: Any) -> Any:
    for size in [(300, 1000), (1000, 300), (2200, 2200), (1, 1), (1, 2200), (2200, 1), (336, 672), (57, 113)]:
        test = example(*size)(test)
    return test


def processor_for(processor: Any, geometry: ImageGeometry) -> Any:
    """The oracle's processor with another geometry."""
    changed = copy.deepcopy(processor)
    changed.image_processor.image_grid_pinpoints = [list(pinpoint) for pinpoint in geometry.pinpoints]
    changed.patch_size = geometry.patch
    return changed


def packed_features(size: tuple[int, int], geometry: ImageGeometry) -> int:
    """The features transformers' model makes of a picture."""
    from transformers.models.llava_next.modeling_llava_next import LlavaNextModel, image_size_to_num_patches

    pinpoints = [list(pinpoint) for pinpoint in geometry.pinpoints]
    vision = SimpleNamespace(image_size=geometry.tile, patch_size=geometry.patch)
    model = SimpleNamespace(config=SimpleNamespace(vision_config=vision, image_grid_pinpoints=pinpoints))
    tiles = image_size_to_num_patches(size, pinpoints, geometry.tile)
    assert tiles == ours.tile_count(size, geometry)
    features = torch.zeros(tiles, (geometry.tile // geometry.patch) ** 2, 1)
    packed, _ = LlavaNextModel.pack_image_features(model, [features], [list(size)], "default", torch.zeros(1))
    return int(packed[0].shape[0])


@GEOMETRIES
def test_counts_equal_transformers_processor(geometry: ImageGeometry, processor: Any) -> None:
    """The placeholders it would write: features of the base tile less the class token, rows and newlines."""
    oracle = processor_for(processor, geometry)

    @explicit
    @given(SIDES, SIDES)
    @settings(max_examples=1500, deadline=None)
    def check(height: int, width: int) -> None:
        theirs = oracle._get_number_of_features(height, width, geometry.tile, geometry.tile)
        assert ours.feature_count((height, width), geometry) == theirs - 1

    check()


@GEOMETRIES
def test_counts_equal_transformers_model(geometry: ImageGeometry) -> None:
    """The features it would make: unpadding by slices and by arithmetic agree, and so do the tiles."""

    @explicit
    @given(SIDES, SIDES)
    @settings(max_examples=150, deadline=None)
    def check(height: int, width: int) -> None:
        assert ours.feature_count((height, width), geometry) == packed_features((height, width), geometry)

    check()


@GEOMETRIES
def test_sizes_equal_transformers(geometry: ImageGeometry) -> None:
    """Canvas and fitted size, for thin pictures too, whose scaled side vanishes."""
    from transformers.image_processing_utils import get_patch_output_size, select_best_resolution
    from transformers.image_utils import ChannelDimension

    @explicit
    @given(SIDES, SIDES)
    @settings(max_examples=1000, deadline=None)
    def check(height: int, width: int) -> None:
        size = height, width
        canvas = ours.canvas_size(size, geometry)
        assert canvas == select_best_resolution(size, geometry.pinpoints)
        picture = torch.empty(3, height, width, device="meta")
        assert ours.fitted_size(size, geometry) == get_patch_output_size(picture, canvas, ChannelDimension.FIRST)

    check()


@pytest.mark.parametrize(
    ("size", "count"),
    [
        ((20, 20), 1176),
        ((640, 640), 2928),
        ((480, 640), 2340),
        ((899, 1024), 2634),
        ((1067, 1600), 2144),
        ((300, 1000), 2182),
        ((1000, 300), 2232),
        ((336, 672), 1752),
        ((672, 336), 1776),
        ((1080, 1920), 1948),
    ],
)
def test_known_counts_of_llava(size: tuple[int, int], count: int) -> None:
    """TGI's test vectors for square grids, computed by hand for the others, which TGI counts wrongly."""
    assert ours.feature_count(size, LLAVA_IMAGES) == count


def test_a_picture_by_hand() -> None:
    """300 x 1000 fits into 1 x 3 tiles as 303 x 1008; of 24 rows int(300 * 72 / 1000) = 21, of even padding 22 stay."""
    size = (300, 1000)
    assert ours.canvas_size(size, LLAVA_IMAGES) == (336, 1008)
    assert ours.fitted_size(size, LLAVA_IMAGES) == (303, 1008)
    assert ours.tile_count(size, LLAVA_IMAGES) == 4
    assert ours.unpadded_grid(size, LLAVA_IMAGES) == (22, 72)
    assert ours.base_count(LLAVA_IMAGES) == 576


def test_ties_go_to_less_padding_and_then_to_the_first() -> None:
    """A small picture is whole on every canvas: the smallest canvas wins, and of two equal ones the first listed."""
    assert ours.canvas_size((20, 20), LLAVA_IMAGES) == (336, 672)
    reordered = replace(LLAVA_IMAGES, pinpoints=((672, 672), (672, 336), (336, 672)))
    assert ours.canvas_size((20, 20), reordered) == (672, 336)


@pytest.mark.parametrize(("size", "grid"), [((4, 192), (2, 48)), ((4, 193), (0, 48)), ((193, 4), (24, 0))])
def test_thin_pictures_lose_their_last_row(size: tuple[int, int], grid: tuple[int, int]) -> None:
    """int(4 * 48 / 192) = 1 row and its even padding remain; one pixel more and nothing does."""
    assert ours.unpadded_grid(size, LLAVA_IMAGES) == grid
