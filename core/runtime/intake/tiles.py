"""A picture to the tiles a LLaVA-NeXT vision tower sees, as bytes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from runtime.geometry import Size, canvas_size, fitted_size

# NumPy, because PyTorch would share this work out to a team of threads per calling thread, and because the processes
# that decode pictures start faster and stay smaller without PyTorch.

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Cutting:
    """What cutting takes of a model's `ImageGeometry`."""

    tile: int
    patch: int
    pinpoints: tuple[Size, ...]
    resample: int


def cut_tiles(image: Image.Image, cutting: Cutting) -> Bytes:  # [tiles, 3, tile, tile]
    """Return the base tile, then the tiles of the canvas row by row.

    `image` is RGB. The base tile does not keep the aspect ratio; the canvas does, with the picture in its middle on
    black (models/llava_next/image_processing_llava_next.py of transformers).
    """
    base = _pixels(image.resize((cutting.tile, cutting.tile), cutting.resample))
    views = _cut(base, cutting.tile), _cut(_pixels(_fit(image, cutting)), cutting.tile)
    tiles = np.empty(
        (sum(map(len, views)), *views[0].shape[1:]), np.uint8
    )  # in C order, which concatenate may not keep
    return np.concatenate(views, out=tiles)


def _fit(image: Image.Image, cutting: Cutting) -> Image.Image:
    size = image.height, image.width
    canvas_height, canvas_width = canvas_size(size, cutting)
    height, width = fitted_size(size, cutting)
    canvas = Image.new("RGB", (canvas_width, canvas_height))
    fitted = image.resize((width, height), cutting.resample)
    canvas.paste(fitted, ((canvas_width - width) // 2, (canvas_height - height) // 2))
    return canvas


def _pixels(image: Image.Image) -> Bytes:  # [height, width, 3]
    return np.frombuffer(image.tobytes(), np.uint8).reshape(image.height, image.width, 3)


def _cut(pixels: Bytes, tile: int) -> Bytes:  # [tiles, 3, tile, tile]
    rows, columns = pixels.shape[0] // tile, pixels.shape[1] // tile
    grid = pixels.reshape(rows, tile, columns, tile, 3)
    return grid.transpose(0, 2, 4, 1, 3).reshape(rows * columns, 3, tile, tile)
