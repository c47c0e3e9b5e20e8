"""Tiles, against transformers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from runtime.backend import ImageGeometry
from runtime.geometry import fitted_size, tile_count
from runtime.prompt.tiles import cut_tiles


def scene(height: int, width: int) -> Image.Image:
    """Noise over a gradient: every channel and corner differs."""
    noise = Image.effect_noise((width, height), 60)
    ramp = Image.linear_gradient("L").resize((width, height))
    return Image.merge("RGB", (noise, ramp, ramp.transpose(Image.Transpose.ROTATE_180)))


@pytest.mark.parametrize(
    ("height", "width"),
    [(20, 20), (84, 84), (85, 169), (169, 85), (4, 60), (60, 4), (150, 30), (252, 84), (300, 1000), (1001, 333)],
)
def test_tiles_equal_transformers(height: int, width: int, processor: Any, demo: ImageGeometry) -> None:
    """Bit for bit, base tile first and then row by row."""
    check(height, width, processor, demo)


@given(st.integers(4, 400), st.integers(4, 400))
@settings(max_examples=120, deadline=None)
def test_tiles_equal_transformers_for_any_size(processor: Any, demo: ImageGeometry, height: int, width: int) -> None:
    """Odd sides and aspect ratios round alike."""
    assume(min(fitted_size((height, width), demo)) > 3)  # some releases take such a side for the channels and fail
    check(height, width, processor, demo)


def test_tiles_equal_transformers_at_full_size(processor: Any, llava: ImageGeometry) -> None:
    """With llava-v1.6's own tiles."""
    check(
        479,
        641,
        processor,
        llava,
        image_grid_pinpoints=[list(pinpoint) for pinpoint in llava.pinpoints],
        size={"shortest_edge": 336},
        crop_size={"height": 336, "width": 336},
    )


def check(height: int, width: int, processor: Any, geometry: ImageGeometry, **options: Any) -> None:
    image = scene(height, width)
    theirs = processor.image_processor(image, return_tensors="pt", **options)
    tiles = cut_tiles(image, geometry)
    assert tiles.dtype == torch.float32
    assert tiles.shape == (tile_count((height, width), geometry), 3, geometry.tile, geometry.tile)
    assert theirs["image_sizes"].tolist() == [[height, width]]
    assert torch.equal(tiles, theirs["pixel_values"][0])


def test_a_picture_by_hand(demo: ImageGeometry) -> None:
    """White 84 x 168 fills both tiles of its canvas; black bars above and below 40 x 100 stay black, normalised."""
    white = [(1 - mean) / std for mean, std in zip(demo.mean, demo.std, strict=True)]
    black = [-mean / std for mean, std in zip(demo.mean, demo.std, strict=True)]
    tiles = cut_tiles(Image.new("RGB", (168, 84), "white"), demo)
    assert tiles.shape[0] == 3
    torch.testing.assert_close(tiles, torch.tensor(white).view(1, 3, 1, 1).expand_as(tiles))
    padded = cut_tiles(Image.new("RGB", (100, 40), "white"), demo)  # fitted 68 x 168 (67.2), 8 rows above and below
    torch.testing.assert_close(padded[1, :, 7, 30], torch.tensor(black))
    torch.testing.assert_close(padded[1, :, 8, 30], torch.tensor(white))
    torch.testing.assert_close(padded[2, :, 75, 30], torch.tensor(white))
    torch.testing.assert_close(padded[2, :, 76, 30], torch.tensor(black))


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted in /proc")
def test_cutting_starts_no_threads(llava: ImageGeometry) -> None:
    """A team of PyTorch's for each preparing thread would be more threads than cores, and slow the model down."""

    def started() -> int:
        before = len(list(Path("/proc/self/task").iterdir()))
        for size in ((900, 700), (1300, 900)):
            cut_tiles(Image.new("RGB", size), llava)
        return len(list(Path("/proc/self/task").iterdir())) - before

    with ThreadPoolExecutor(1) as pool:
        pool.submit(torch.set_num_threads, 2).result()  # the setting is each thread's own
        try:
            assert pool.submit(started).result() == 0
        finally:
            pool.submit(torch.set_num_threads, torch.get_num_threads()).result()
