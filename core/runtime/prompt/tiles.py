"""A picture to the tiles a LLaVA-NeXT vision tower sees."""

from __future__ import annotations

import torch
from PIL import Image

from runtime.backend import ImageGeometry
from runtime.geometry import canvas_size, fitted_size


def cut_tiles(image: Image.Image, geometry: ImageGeometry) -> torch.Tensor:  # float32 [tiles, 3, tile, tile], cpu
    """Return the base tile, then the tiles of the canvas row by row, normalised.

    `image` is RGB. The base tile does not keep the aspect ratio; the canvas does, with the picture in its middle on
    black (models/llava_next/image_processing_llava_next.py of transformers).
    """
    base = _pixels(image.resize((geometry.tile, geometry.tile), geometry.resample))
    tiles = torch.cat([_cut(base, geometry.tile), _cut(_pixels(_fit(image, geometry)), geometry.tile)])
    # In double precision and then rounded, as transformers does, so that the values are equal to the last bit.
    scaled = (tiles.to(torch.float64) * geometry.rescale).to(torch.float32)
    return (scaled - _per_channel(geometry.mean)) / _per_channel(geometry.std)


def _fit(image: Image.Image, geometry: ImageGeometry) -> Image.Image:
    size = image.height, image.width
    canvas_height, canvas_width = canvas_size(size, geometry)
    height, width = fitted_size(size, geometry)
    canvas = Image.new("RGB", (canvas_width, canvas_height))
    fitted = image.resize((width, height), geometry.resample)
    canvas.paste(fitted, ((canvas_width - width) // 2, (canvas_height - height) // 2))
    return canvas


def _pixels(image: Image.Image) -> torch.Tensor:  # uint8 [height, width, 3], cpu
    return torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(image.height, image.width, 3)


def _cut(pixels: torch.Tensor, tile: int) -> torch.Tensor:  # uint8 [tiles, 3, tile, tile], cpu
    rows, columns = pixels.shape[0] // tile, pixels.shape[1] // tile
    grid = pixels.view(rows, tile, columns, tile, 3)
    return grid.permute(0, 2, 4, 1, 3).reshape(rows * columns, 3, tile, tile)


def _per_channel(values: tuple[float, float, float]) -> torch.Tensor:  # float32 [3, 1, 1], cpu
    return torch.tensor(values, dtype=torch.float32).view(3, 1, 1)
