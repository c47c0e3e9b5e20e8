"""A pool of training pictures, drawn once: tiles, patch labels and scenes in a folder."""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from digit_sheet import sample_digit_sheet
from free_scene import TYPEFACES, sample_free_scene
from labels import Labels, patch_labels
from odd_colours import oddly_coloured
from PIL import Image
from runtime.demo.drawing import draw
from runtime.demo.scene import Scene, Shape, sample_scene
from shape_sheet import sample_shape_sheet
from tiles import Pixels, tile_count, tiles_of

GRID_SHARE = 0.25
"""Of pictures whose shapes stand in a grid, as `runtime demo picture` draws them."""

CROWDED_GRID_SHARE = 0.75
"""Of crowded pictures: there every large shape carries a digit, and digits are what takes the tower longest."""

PAIR_SHARE = 0.15
"""Of pictures with just two shapes, besides those that come by chance: the curriculum begins with them."""

JPEG_SHARE = 0.4
"""Of pictures that were stored as JPEG before the model sees them."""


@dataclass(frozen=True, slots=True)
class Pool:
    """Pictures by number, from 0."""

    scenes: tuple[Scene, ...]
    tiles: Pixels  # uint8 [tiles of all pictures, TILE, TILE, 3], may be mapped from a file
    labels: Labels  # int8 [tiles of all pictures, patches, labels]
    offsets: tuple[int, ...]
    """First tile of each picture, and the number of tiles at the end."""

    def tiles_of(self, picture: int) -> Pixels:
        """Return the tiles of one picture: uint8 [tiles, TILE, TILE, 3]."""
        return self.tiles[self.offsets[picture] : self.offsets[picture + 1]]

    def labels_of(self, picture: int) -> Labels:
        """Return the labels of one picture: int8 [tiles, patches, labels]."""
        return self.labels[self.offsets[picture] : self.offsets[picture + 1]]


def draw_pool(pictures: int, seed: int, kind: str = "plain") -> Pool:
    """Return a pool of that many random pictures of one of KINDS, none with a held-out pair."""
    rng = Random(seed)
    scenes, tiles, labels = [], [], []
    for _ in range(pictures):
        scene = KINDS[kind](rng)
        scenes.append(scene)
        tiles.append(tiles_of(stored(draw(scene), rng)))
        labels.append(patch_labels(scene))
    return Pool(tuple(scenes), np.concatenate(tiles), np.concatenate(labels), _offsets(scenes))


def sample_plain(rng: Random) -> Scene:
    """Return a random scene to be asked about, in a grid or free."""
    choice = rng.random()
    if choice < GRID_SHARE:
        return _retyped(sample_scene(rng), rng)
    return sample_free_scene(rng, shapes=2 if choice < GRID_SHARE + PAIR_SHARE else None)


def sample_crowded(rng: Random) -> Scene:
    """Return a random scene of up to nine shapes, some in colours without a name; for the tower only."""
    in_grid = rng.random() < CROWDED_GRID_SHARE
    scene = _retyped(sample_scene(rng, crowded=True), rng) if in_grid else sample_free_scene(rng, crowded=True)
    return oddly_coloured(scene, rng)


def sample_digits(rng: Random) -> Scene:
    """Return a random sheet of digits, some on shapes in colours without a name; for the tower only."""
    return oddly_coloured(sample_digit_sheet(rng), rng)


def sample_shapes(rng: Random) -> Scene:
    """Return a random sheet of small shapes, some in colours without a name; for the tower only."""
    return oddly_coloured(sample_shape_sheet(rng), rng)


KINDS: dict[str, Callable[[Random], Scene]] = {
    "plain": sample_plain,
    "crowded": sample_crowded,
    "digits": sample_digits,
    "shapes": sample_shapes,
}
"""What a pool may hold."""


def _retyped(scene: Scene, rng: Random) -> Scene:
    """Return the scene with its digits in any typeface."""
    shapes = (dataclasses.replace(shape, typeface=rng.choice(TYPEFACES)) for shape in scene.shapes)
    return dataclasses.replace(scene, shapes=tuple(shapes))


def stored(image: Image.Image, rng: Random) -> Image.Image:
    """Return the picture, now and then as JPEG of quality 60 or better gives it back."""
    if rng.random() > JPEG_SHARE:
        return image
    data = io.BytesIO()
    image.save(data, "JPEG", quality=rng.randint(60, 95))
    return Image.open(data).convert("RGB")


def save_pool(pool: Pool, folder: Path) -> None:
    """Write a pool; the folder is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "tiles.npy", pool.tiles)
    np.save(folder / "labels.npy", pool.labels)
    (folder / "scenes.json").write_text(json.dumps([dataclasses.asdict(scene) for scene in pool.scenes]))


def load_pool(folder: Path) -> Pool:
    """Read a pool, its tiles mapped from the file."""
    scenes = tuple(_scene(facts) for facts in json.loads((folder / "scenes.json").read_text()))
    tiles = np.load(folder / "tiles.npy", mmap_mode="r")
    return Pool(scenes, tiles, np.load(folder / "labels.npy"), _offsets(scenes))


def _offsets(scenes: list[Scene] | tuple[Scene, ...]) -> tuple[int, ...]:
    return tuple(itertools.accumulate((tile_count(scene.height, scene.width) for scene in scenes), initial=0))


def _scene(facts: dict[str, Any]) -> Scene:
    """Return the scene that `dataclasses.asdict` made; JSON has turned its tuples into lists."""
    shapes = tuple(_shape(shape) for shape in facts["shapes"])
    return Scene(**{**facts, "shapes": shapes, "background_rgb": tuple(facts["background_rgb"])})


def _shape(facts: dict[str, Any]) -> Shape:
    edge = None if facts["edge"] is None else tuple(facts["edge"])
    return Shape(**{**facts, "rgb": tuple(facts["rgb"]), "edge": edge})
