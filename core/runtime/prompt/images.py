"""The pictures of a prompt, from what the user sent to what the vision tower takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from runtime.backend import ImageGeometry, Images
from runtime.errors import ImageRefused
from runtime.geometry import canvas_size, tile_count, unpadded_grid
from runtime.intake.decode import Picture, decode_picture
from runtime.intake.limits import IntakeLimits
from runtime.intake.source import picture_bytes
from runtime.prompt.tiles import cut_tiles, join_tiles
from runtime.runtime import ImagePart, ImageUrlPart
from runtime.telemetry.pictures import StageClock


def build_images(
    parts: Sequence[ImagePart | ImageUrlPart], geometry: ImageGeometry, limits: IntakeLimits
) -> tuple[Images, list[Mapping[str, float]]]:
    """Decode and cut pictures one after the other, so that one at a time is held at full size.

    Returns them with the seconds that each stage of each took. `parts` is not empty. Raises ImageRefused, naming the
    picture by its place in `parts`.
    """
    tiles: list[torch.Tensor] = []
    sizes: list[tuple[int, int]] = []
    digests: list[bytes] = []
    seconds: list[Mapping[str, float]] = []
    for index, part in enumerate(parts):
        clock = StageClock()
        data = picture_bytes(part, index, limits)
        clock.end("fetch")
        picture = decode_picture(data, index, limits)
        clock.end("decode")
        _check_thickness(picture, index, geometry)
        tiles.append(cut_tiles(picture.image, geometry))
        clock.end("tile")
        sizes.append(picture.size)
        digests.append(picture.digest)
        seconds.append(clock.seconds)
    counts = tuple(tile_count(size, geometry) for size in sizes)
    return Images(join_tiles(tiles), counts, tuple(sizes), tuple(digests)), seconds


def _check_thickness(picture: Picture, index: int, geometry: ImageGeometry) -> None:
    """Refuse a picture so thin that no feature of its detailed view would remain."""
    if 0 in unpadded_grid(picture.size, geometry):
        height, width = picture.size
        canvas_height, canvas_width = canvas_size(picture.size, geometry)
        raise ImageRefused(
            f"picture {index}: {height} x {width} pixels (height x width) are too thin to be seen: fitted into "
            f"{canvas_height} x {canvas_width}, the thin side is less than one patch; crop the long side"
        )
