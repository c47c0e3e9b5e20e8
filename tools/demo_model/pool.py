"""A pool of training pictures, drawn once: tiles, patch labels and scenes in a folder."""

from __future__ import annotations

import dataclasses
import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from labels import Labels, patch_labels
from runtime.demo.drawing import draw
from runtime.demo.scene import Scene, Shape, sample_scene
from tiles import Pixels, tile_count, tiles_of


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


def draw_pool(pictures: int, seed: int, *, crowded: bool = False) -> Pool:
    """Return a pool of that many random pictures, none with a held-out pair."""
    rng = Random(seed)
    scenes = tuple(sample_scene(rng, crowded=crowded) for _ in range(pictures))
    tiles = np.concatenate([tiles_of(draw(scene)) for scene in scenes])
    labels = np.concatenate([patch_labels(scene) for scene in scenes])
    return Pool(scenes, tiles, labels, _offsets(scenes))


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


def _offsets(scenes: tuple[Scene, ...]) -> tuple[int, ...]:
    return tuple(itertools.accumulate((tile_count(scene.height, scene.width) for scene in scenes), initial=0))


def _scene(facts: dict[str, Any]) -> Scene:
    """Return the scene that `dataclasses.asdict` made; JSON has turned its tuples into lists."""
    shapes = tuple(Shape(**{**shape, "rgb": tuple(shape["rgb"])}) for shape in facts["shapes"])
    return Scene(**{**facts, "shapes": shapes, "background_rgb": tuple(facts["background_rgb"])})
