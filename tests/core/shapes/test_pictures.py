"""Every picture of 1 to 2200 pixels a side, and what it comes to."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runtime.backend import ImageGeometry, PrefillShape, VisionShape
from runtime.errors import UnplannedShape
from runtime.geometry import feature_count, tile_count, unpadded_grid
from runtime.shapes import PlannedShapes
from runtime.shapes.pictures import PaddedPicture, cuts_of, padded_picture
from support.cuts import Grid, cut_table
from support.geometries import CLIP_MEAN, CLIP_STD, DEMO_IMAGES, LLAVA_IMAGES
from support.plans import GUIDE_PLAN

SIDES = np.arange(1, 2201)
GEOMETRIES = pytest.mark.parametrize("geometry", [LLAVA_IMAGES, DEMO_IMAGES], ids=["llava", "demo"])


def pairs_of(heights: Grid, widths: Grid, geometry: ImageGeometry) -> set[tuple[int, int]]:
    """Every (tiles, tokens) that pictures of these sides come to."""
    found: set[tuple[int, int]] = set()
    for part in np.array_split(heights, max(1, len(heights) // 200)):
        tiles, tokens = cut_table(part, widths, geometry)
        keys = np.unique((tiles * 2**32 + tokens)[tokens > 0])
        found |= {(int(key) >> 32, int(key) & 2**32 - 1) for key in keys}
    return found


@GEOMETRIES
def test_the_table_is_right(geometry: ImageGeometry) -> None:
    """At random, at the corners, and on both sides of every edge along three lines."""
    generator = random.Random(0)
    sizes = [(generator.randint(1, 2200), generator.randint(1, 2200)) for _ in range(3000)]
    sizes += [(1, 1), (1, 2200), (2200, 1), (2200, 2200)]
    for lines in ((SIDES, np.array([700])), (np.array([333]), SIDES), (np.array([2200]), SIDES)):
        tokens = cut_table(*lines, geometry)[1].ravel()
        edges = np.flatnonzero(np.diff(tokens))
        along = np.unique(np.concatenate([edges, edges + 1])) + 1
        sizes += [(int(at), 700) if len(lines[1]) == 1 else (int(lines[0][0]), int(at)) for at in along]
    for height, width in sizes:
        (tiles,), (tokens,) = (table[0] for table in cut_table(np.array([height]), np.array([width]), geometry))
        assert tiles == tile_count((height, width), geometry)
        seen = 0 not in unpadded_grid((height, width), geometry)
        assert tokens == (feature_count((height, width), geometry) if seen else 0)


@pytest.mark.parametrize(("geometry", "count"), [(LLAVA_IMAGES, 127), (DEMO_IMAGES, 37)], ids=["llava", "demo"])
def test_the_cuts_are_those_of_all_pictures(geometry: ImageGeometry, count: int) -> None:
    """All 4,840,000 sizes: none comes to something else, and each cut is met."""
    cuts = cuts_of(geometry)
    assert {(cut.tiles, cut.tokens) for cut in cuts} == pairs_of(SIDES, SIDES, geometry)
    assert len(cuts) == count


@GEOMETRIES
def test_every_cut_has_a_witness(geometry: ImageGeometry) -> None:
    """A picture that comes to it."""
    for cut in cuts_of(geometry):
        assert (cut.tiles, cut.tokens) == (tile_count(cut.witness, geometry), feature_count(cut.witness, geometry))


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)), min_size=1, max_size=6, unique=True))
@settings(max_examples=40)
def test_cuts_of_other_models(grids: list[tuple[int, int]]) -> None:
    """Any canvases, in any order: what pictures of up to 400 pixels, over twice the largest canvas, come to."""
    pinpoints = tuple((56 * rows, 56 * columns) for rows, columns in grids)
    geometry = ImageGeometry(56, 8, pinpoints, CLIP_MEAN, CLIP_STD, 1 / 255, 3)
    sides = np.arange(1, 401)
    assert {(cut.tiles, cut.tokens) for cut in cuts_of(geometry)} == pairs_of(sides, sides, geometry)


def test_every_picture_has_a_shape_for_the_tower() -> None:
    """With the guide's limits, and each of them has a picture: the size of a canvas is cut into its tiles."""
    assert set(GUIDE_PLAN.vision) == {VisionShape(tiles) for tiles, _ in pairs_of(SIDES, SIDES, LLAVA_IMAGES)}
    assert {tile_count(canvas, LLAVA_IMAGES) for canvas in LLAVA_IMAGES.pinpoints} == {3, 4, 5}


def test_every_prompt_of_a_picture_has_a_shape() -> None:
    """Of every cut, with any text that fits. Less than 128 tokens are padding.

    The worst is the smallest cut by itself, 24 rows of 2 cells: 576 + 24 x 3 = 648 tokens, 120 short of 6 x 128.
    """
    shapes = PlannedShapes(GUIDE_PLAN)
    planned = set(GUIDE_PLAN.prefill)
    worst = 0.0
    for cut in cuts_of(LLAVA_IMAGES):
        for text in (0, 1, 40, 127, 128, 129, 4096 - cut.tokens):
            length = cut.tokens + text
            shape = shapes.prefill_for(1, length)
            assert shape in planned
            assert shape == PrefillShape(1, -(-length // 128) * 128)
            worst = max(worst, 1 - length / shape.length)
    assert worst == 120 / 768


def test_the_average_picture_wastes_little() -> None:
    """Over all 4,770,664 sizes that can be seen, each as likely as the others: 3.2 % of the tokens computed."""
    real = padded = seen = 0
    for heights in np.array_split(SIDES, 11):
        tokens = cut_table(heights, SIDES, LLAVA_IMAGES)[1]
        real += int(tokens.sum())
        padded += int((-(-tokens // 128) * 128).sum())
        seen += int((tokens > 0).sum())
    assert seen == 4_770_664
    assert round(1 - real / padded, 3) == 0.032


def test_the_cost_of_a_picture() -> None:
    """1024 x 768: 5 tiles, 576 + 36 x 49 = 2340 tokens, in the bucket of 19 x 128."""
    shapes = PlannedShapes(GUIDE_PLAN)
    assert padded_picture((768, 1024), LLAVA_IMAGES, shapes) == PaddedPicture(5, 2340, 2432)
    assert padded_picture((768, 1024), LLAVA_IMAGES, shapes).padding == 92


def test_a_picture_no_prompt_can_hold() -> None:
    """A typed error."""
    shapes = PlannedShapes(type(GUIDE_PLAN)(prefill=(PrefillShape(1, 1024),)))
    with pytest.raises(UnplannedShape, match="no shape is planned for a prefill of 1 rows of 2340 tokens"):
        padded_picture((768, 1024), LLAVA_IMAGES, shapes)
