"""How a vision model cuts pictures, read from its config and its image processor, which must agree."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final

from runtime.backend import ImageGeometry
from runtime.errors import ModelRefused
from runtime.model.section import MAX_LIST, Section, is_integer, read_section

MAX_SIDE: Final = 4096
"""Longest side of a tile, pixels."""
MAX_TILES: Final = 64
"""Tiles of a canvas."""
LAST_RESAMPLE: Final = 5
"""Highest number of a Pillow filter."""


def read_images(path: Path, config: Section) -> ImageGeometry:
    """Check that model and image processor cut pictures alike, and return how."""
    vision = config.section("vision_config")
    vision.choice("model_type", ("clip_vision_model",))
    vision = vision.with_defaults("clip_vision_model")
    vision.choice("num_channels", (3,))
    # With `full`, a tile's class token does not fit into the grid its features are arranged in: transformers'
    # own forward pass fails for every picture, so there is no right answer to give.
    config.choice("vision_feature_select_strategy", ("default",))
    tile = vision.integer("image_size", 1, MAX_SIDE)
    pinpoints = _pinpoints(config, tile)
    processor = _image_processor(path, config.model)
    for step in ("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_pad"):
        processor.choice(step, (True,))
    for key in ("size", "crop_size"):
        if _side(processor, key) != tile:
            raise processor.refusal(key, f"{tile} pixels, the image_size of vision_config in config.json")
    if _pinpoints(processor, tile) != pinpoints:
        raise processor.refusal("image_grid_pinpoints", "the list in config.json")
    if processor.has("aspect_ratio_setting"):
        processor.choice("aspect_ratio_setting", ("anyres",))
    return ImageGeometry(
        tile=tile,
        patch=vision.integer("patch_size", 1, tile),
        pinpoints=pinpoints,
        mean=processor.triple("image_mean", 0, 255),
        std=processor.triple("image_std", 1e-6, 255),
        rescale=processor.number("rescale_factor", 1),
        resample=processor.integer("resample", 0, LAST_RESAMPLE),
    )


def _image_processor(path: Path, model: str) -> Section:
    """Find the image processor's settings: inside processor_config.json (transformers 5) or in a file of their own."""
    folded = read_section(path, "processor_config.json")
    if folded is not None and folded.has("image_processor"):
        processor = folded.section("image_processor")
    else:
        alone = read_section(path, "preprocessor_config.json")
        if alone is None:
            raise ModelRefused(f"Model {model} has no preprocessor_config.json; download the file.")
        processor = alone
    if processor.has("image_processor_type"):
        kinds = ("LlavaNextImageProcessor", "LlavaNextImageProcessorFast", "LlavaNextImageProcessorPil")
        processor.choice("image_processor_type", kinds)
    return processor.with_defaults("llava_next_image_processor")


def _pinpoints(section: Section, tile: int) -> tuple[tuple[int, int], ...]:
    """Return the canvas sizes (height, width), each a whole number of tiles."""
    key = "image_grid_pinpoints"
    accepted = f"a list of up to {MAX_LIST} pairs [height, width], multiples of {tile} with at most {MAX_TILES} tiles"
    entries = section.values.get(key)
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_LIST:
        raise section.refusal(key, accepted)
    if not all(_is_canvas(entry, tile) for entry in entries):
        raise section.refusal(key, accepted)
    return tuple((height, width) for height, width in entries)


def _is_canvas(entry: object, tile: int) -> bool:
    if not isinstance(entry, list) or len(entry) != 2 or not all(is_integer(side) and side > 0 for side in entry):
        return False
    tiles = [side // tile for side in entry if side % tile == 0]
    return len(tiles) == 2 and math.prod(tiles) <= MAX_TILES


def _side(section: Section, key: str) -> int:
    """Return the side of a square given as a number, as {"shortest_edge": n} or as {"height": n, "width": n}."""
    if not isinstance(section.values.get(key), dict):
        return section.integer(key, 1, MAX_SIDE)
    square = section.section(key)
    sides = {square.integer(edge, 1, MAX_SIDE) for edge in ("shortest_edge", "height", "width") if square.has(edge)}
    if len(sides) != 1:
        raise section.refusal(key, "a square")
    return sides.pop()
