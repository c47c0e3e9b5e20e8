"""A picture to the tiles a LLaVA-NeXT vision tower sees."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from runtime.backend import ImageGeometry
from runtime.geometry import canvas_size, fitted_size

# NumPy, because PyTorch would share this work out to a team of threads per calling thread, and teams that are more
# threads than the machine has cores slow down whatever else computes with PyTorch.

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


def cut_tiles(image: Image.Image, geometry: ImageGeometry) -> torch.Tensor:  # float32 [tiles, 3, tile, tile], cpu
    """Return the base tile, then the tiles of the canvas row by row, normalised.

    `image` is RGB. The base tile does not keep the aspect ratio; the canvas does, with the picture in its middle on
    black (models/llava_next/image_processing_llava_next.py of transformers).
    """
    base = _pixels(image.resize((geometry.tile, geometry.tile), geometry.resample))
    tiles = np.concatenate([_cut(base, geometry.tile), _cut(_pixels(_fit(image, geometry)), geometry.tile)])
    scaled = np.empty(tiles.shape, np.float32)
    for channel, levels in enumerate(_levels(geometry)):
        np.take(levels, tiles[:, channel], out=scaled[:, channel])
    return torch.from_numpy(scaled)


def join_tiles(pictures: Sequence[torch.Tensor]) -> torch.Tensor:  # float32 [tiles, 3, tile, tile], cpu
    """Return the tiles of several pictures in one tensor."""
    if len(pictures) == 1:
        return pictures[0]
    return torch.from_numpy(np.concatenate([tiles.numpy() for tiles in pictures]))


def _levels(geometry: ImageGeometry) -> Floats:  # [3, 256]
    """Return what each byte becomes in each channel."""
    # In double precision and then rounded, as transformers does, so that the values are equal to the last bit.
    scaled = (np.arange(256, dtype=np.float64) * geometry.rescale).astype(np.float32)
    mean, std = (np.array(values, np.float32)[:, None] for values in (geometry.mean, geometry.std))
    levels: Floats = (scaled - mean) / std
    return levels


def _fit(image: Image.Image, geometry: ImageGeometry) -> Image.Image:
    size = image.height, image.width
    canvas_height, canvas_width = canvas_size(size, geometry)
    height, width = fitted_size(size, geometry)
    canvas = Image.new("RGB", (canvas_width, canvas_height))
    fitted = image.resize((width, height), geometry.resample)
    canvas.paste(fitted, ((canvas_width - width) // 2, (canvas_height - height) // 2))
    return canvas


def _pixels(image: Image.Image) -> Bytes:  # [height, width, 3]
    return np.frombuffer(image.tobytes(), np.uint8).reshape(image.height, image.width, 3)


def _cut(pixels: Bytes, tile: int) -> Bytes:  # [tiles, 3, tile, tile]
    rows, columns = pixels.shape[0] // tile, pixels.shape[1] // tile
    grid = pixels.reshape(rows, tile, columns, tile, 3)
    return grid.transpose(0, 2, 4, 1, 3).reshape(rows * columns, 3, tile, tile)
