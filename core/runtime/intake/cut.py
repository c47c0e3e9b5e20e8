"""A picture of a request from its encoded bytes to tiles: all that needs an image library, in one call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from runtime.errors import ImageRefused
from runtime.geometry import Size, canvas_size, unpadded_grid
from runtime.intake.decode import decode_picture
from runtime.intake.limits import IntakeLimits
from runtime.intake.tiles import Bytes, Cutting, cut_tiles
from runtime.telemetry.pictures import StageClock


@dataclass(frozen=True, slots=True)
class CutPicture:
    """A picture that needs no decoding any more."""

    size: Size
    """(height, width), pixels."""
    digest: bytes
    """Of the decoded pixels; see `Picture`."""
    tiles: Bytes  # [tiles, 3, tile, tile]
    seconds: Mapping[str, float]
    """By stage: decode, tile."""


def cut_picture(data: bytes, index: int, limits: IntakeLimits, cutting: Cutting) -> CutPicture:
    """Decode and cut; `index` is the picture's place in the request, for error texts. Raises ImageRefused."""
    clock = StageClock()
    picture = decode_picture(data, index, limits)
    clock.end("decode")
    _check_thickness(picture.size, index, cutting)
    tiles = cut_tiles(picture.image, cutting)
    clock.end("tile")
    return CutPicture(picture.size, picture.digest, tiles, clock.seconds)


def _check_thickness(size: Size, index: int, cutting: Cutting) -> None:
    """Refuse a picture so thin that no feature of its detailed view would remain."""
    if 0 in unpadded_grid(size, cutting):
        height, width = size
        canvas_height, canvas_width = canvas_size(size, cutting)
        raise ImageRefused(
            f"picture {index}: {height} x {width} pixels (height x width) are too thin to be seen: fitted into "
            f"{canvas_height} x {canvas_width}, the thin side is less than one patch; crop the long side"
        )
