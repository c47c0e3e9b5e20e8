"""Batches of pictures of similar shape, in random order, for ever."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
import torch
from pool import Pool
from runtime.demo.scene import Scene
from tiles import Pixels

CHUNK = 8
"""Batches that are sorted among themselves by number of tiles, so that rows need little padding."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A few pictures with their labels."""

    scenes: tuple[Scene, ...]
    tiles: tuple[Pixels, ...]
    """For each picture uint8 [tiles, TILE, TILE, 3]."""
    labels: torch.Tensor  # int64 [tiles of all pictures, patches, labels], cpu

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """(height, width) of each picture."""
        return [(scene.height, scene.width) for scene in self.scenes]

    @property
    def tile_counts(self) -> list[int]:
        """Number of tiles of each picture."""
        return [len(tiles) for tiles in self.tiles]


def batches(pools: Sequence[Pool], size: int, rng: Random) -> Iterator[Batch]:
    """Yield batches of that many pictures; every picture once before any comes again, but for a remainder.

    Raises ValueError if the pools together hold less than one chunk of batches.
    """
    pictures = [(pool, picture) for pool in pools for picture in range(len(pool.scenes))]
    chunk_size = size * CHUNK
    if len(pictures) < chunk_size:
        raise ValueError(f"{len(pictures)} pictures are too few, a chunk of batches takes {chunk_size}")
    while True:
        rng.shuffle(pictures)
        order = []
        for start in range(0, len(pictures) - chunk_size + 1, chunk_size):
            chunk = sorted(pictures[start : start + chunk_size], key=_shape)
            order += [chunk[first : first + size] for first in range(0, chunk_size, size)]
        rng.shuffle(order)
        yield from map(_batch, order)


def _shape(item: tuple[Pool, int]) -> tuple[int, float]:
    pool, picture = item
    scene = pool.scenes[picture]
    return len(pool.tiles_of(picture)), scene.width / scene.height


def _batch(pictures: Sequence[tuple[Pool, int]]) -> Batch:
    return Batch(
        scenes=tuple(pool.scenes[picture] for pool, picture in pictures),
        tiles=tuple(pool.tiles_of(picture) for pool, picture in pictures),
        labels=torch.from_numpy(np.concatenate([pool.labels_of(picture) for pool, picture in pictures])).long(),
    )
