"""A picture to the tiles a LLaVA-NeXT vision tower sees, normalised."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from runtime.backend import ImageGeometry
from runtime.intake import tiles as intake
from runtime.intake.tiles import Bytes, Cutting

# NumPy, because PyTorch would share this work out to a team of threads per calling thread, and teams that are more
# threads than the machine has cores slow down whatever else computes with PyTorch.

Floats = npt.NDArray[np.float32]


def cutting_of(geometry: ImageGeometry) -> Cutting:
    """Return what cutting takes of a geometry."""
    return Cutting(geometry.tile, geometry.patch, geometry.pinpoints, geometry.resample)


def cut_tiles(image: Image.Image, geometry: ImageGeometry) -> torch.Tensor:  # float32 [tiles, 3, tile, tile], cpu
    """Return the base tile, then the tiles of the canvas row by row, normalised; `image` is RGB."""
    tiles = intake.cut_tiles(image, cutting_of(geometry))
    scaled = torch.empty(tiles.shape)
    scale_tiles(tiles, geometry, scaled)
    return scaled


def scale_tiles(tiles: Bytes, geometry: ImageGeometry, out: torch.Tensor) -> None:
    """Write normalised tiles into `out`, float32 [tiles, 3, tile, tile] on the CPU."""
    for channel, levels in enumerate(_levels(geometry)):
        for tile, scaled in zip(tiles[:, channel], out.numpy()[:, channel], strict=True):
            np.take(levels, tile, out=scaled, mode="clip")  # no byte is out of range, and checking takes a copy


def _levels(geometry: ImageGeometry) -> Floats:  # [3, 256]
    """Return what each byte becomes in each channel."""
    # In double precision and then rounded, as transformers does, so that the values are equal to the last bit.
    scaled = (np.arange(256, dtype=np.float64) * geometry.rescale).astype(np.float32)
    mean, std = (np.array(values, np.float32)[:, None] for values in (geometry.mean, geometry.std))
    levels: Floats = (scaled - mean) / std
    return levels
