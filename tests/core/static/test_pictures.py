"""The index plan of a picture against transformers' packing of its features."""

from __future__ import annotations

import random
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from runtime.backend import ImageGeometry
from runtime.geometry import feature_count, tile_count
from runtime.shapes.pictures import cuts_of
from runtime.static.pictures import feature_index, most_features
from support.geometries import DEMO_IMAGES, LLAVA_IMAGES, make_geometry
from transformers.models.llava_next.modeling_llava_next import LlavaNextModel

UNEVEN = ImageGeometry(30, 6, ((30, 60), (60, 60), (90, 30)), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 1.0, 3)
GEOMETRIES = {"llava": LLAVA_IMAGES, "demo": DEMO_IMAGES, "uneven": UNEVEN, "one patch": make_geometry(14, 14)}
WITH_GEOMETRY = pytest.mark.parametrize("name", GEOMETRIES)


@cache
def table(tiles: int, geometry: ImageGeometry) -> torch.Tensor:
    """Random features of tiles and, last, the newline: float32 [tiles * patches + 1, 2]."""
    patches = (geometry.tile // geometry.patch) ** 2
    return torch.randn(tiles * patches + 1, 2, generator=torch.Generator().manual_seed(tiles))


def packed(size: tuple[int, int], geometry: ImageGeometry) -> torch.Tensor:
    """What transformers makes of them."""
    tiles = tile_count(size, geometry)
    vectors = table(tiles, geometry)
    vision = SimpleNamespace(image_size=geometry.tile, patch_size=geometry.patch)
    config = SimpleNamespace(vision_config=vision, image_grid_pinpoints=[list(each) for each in geometry.pinpoints])
    model: Any = SimpleNamespace(config=config)
    features = [vectors[:-1].view(tiles, -1, 2)]
    (packs, _) = LlavaNextModel.pack_image_features(model, features, torch.tensor([size]), "default", vectors[-1])
    pack: torch.Tensor = packs[0]
    return pack


def check(size: tuple[int, int], geometry: ImageGeometry) -> None:
    index = feature_index(size, geometry)
    assert index.dtype is torch.int64
    assert len(index) == feature_count(size, geometry)
    assert len(index) <= most_features(tile_count(size, geometry), geometry)
    ours = table(tile_count(size, geometry), geometry).index_select(0, index)
    assert torch.equal(ours, packed(size, geometry)), size


@WITH_GEOMETRY
def test_every_cut_is_transformers_(name: str) -> None:
    """Each of the finitely many ways in which pictures are cut."""
    geometry = GEOMETRIES[name]
    for cut in cuts_of(geometry):
        check(cut.witness, geometry)


@WITH_GEOMETRY
@given(height=st.integers(1, 2200), width=st.integers(1, 2200))
def test_every_size_is_transformers_(name: str, height: int, width: int) -> None:
    """Thin ones too, of which no feature of the canvas is left."""
    check((height, width), GEOMETRIES[name])


@WITH_GEOMETRY
def test_many_sizes_are_transformers_(name: str) -> None:
    """Without preference for the small and the round."""
    chance = random.Random(0)
    for _ in range(300):
        check((chance.randint(1, 2200), chance.randint(1, 2200)), GEOMETRIES[name])


@WITH_GEOMETRY
def test_some_picture_has_the_most_features(name: str) -> None:
    """The room kept for pictures of so many tiles is no larger than it must be."""
    geometry = GEOMETRIES[name]
    most: dict[int, int] = {}
    for cut in cuts_of(geometry):
        most[cut.tiles] = max(most.get(cut.tiles, 0), cut.tokens)
    assert most == {tiles: most_features(tiles, geometry) for tiles in most}
