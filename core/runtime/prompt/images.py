"""The pictures of a prompt as a backend takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from runtime.backend import ImageGeometry, Images
from runtime.intake.cut import CutPicture, cut_picture
from runtime.intake.limits import IntakeLimits
from runtime.intake.source import picture_bytes
from runtime.prompt.tiles import cutting_of, scale_tiles
from runtime.runtime import ImagePart, ImageUrlPart
from runtime.telemetry.pictures import StageClock


def cut_here(
    parts: Sequence[ImagePart | ImageUrlPart], geometry: ImageGeometry, limits: IntakeLimits
) -> list[CutPicture]:
    """Decode and cut pictures in this process, one after the other, so that one at a time is held at full size.

    For tools that trust their pictures; a server has `PictureIntake` do it. Addresses are not fetched. Raises
    ImageRefused, naming the picture by its place in `parts`.
    """
    cutting = cutting_of(geometry)
    return [cut_picture(picture_bytes(part, index, limits), index, limits, cutting) for index, part in enumerate(parts)]


def join_images(pictures: Sequence[CutPicture], geometry: ImageGeometry) -> tuple[Images, list[Mapping[str, float]]]:
    """Return pictures, of which there is one or more, with the seconds that each stage of each took."""
    counts = tuple(len(picture.tiles) for picture in pictures)
    tiles = torch.empty(sum(counts), 3, geometry.tile, geometry.tile)
    seconds: list[Mapping[str, float]] = []
    done = 0
    for picture in pictures:
        clock = StageClock()
        scale_tiles(picture.tiles, geometry, tiles[done : done + len(picture.tiles)])
        done += len(picture.tiles)
        clock.end("tile")
        seconds.append({"fetch": 0.0, **picture.seconds, "tile": picture.seconds["tile"] + clock.seconds["tile"]})
    sizes, digests = (tuple(each) for each in zip(*((one.size, one.digest) for one in pictures), strict=True))
    return Images(tiles, counts, sizes, digests), seconds
