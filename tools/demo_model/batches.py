"""Batches of pictures of the same number of tiles, so that rows need little padding."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
import torch
from pool import Pool
from runtime.demo.scene import Scene
from tiles import Pixels


@dataclass(frozen=True, slots=True)
class Batch:
    """A few pictures with their labels."""

    scenes: tuple[Scene, ...]
    tiles: tuple[Pixels, ...]
    """For each picture uint8 [tiles, TILE, TILE, 3]."""
    labels: torch.Tensor  # int64 [tiles of all pictures, patches, labels]

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """(height, width) of each picture."""
        return [(scene.height, scene.width) for scene in self.scenes]

    @property
    def tile_counts(self) -> list[int]:
        """Number of tiles of each picture."""
        return [len(tiles) for tiles in self.tiles]


class Batches:
    """All pictures of some pools, from which batches are drawn."""

    def __init__(self, pools: Sequence[Pool]) -> None:
        self._pools = pools
        groups: dict[tuple[int, bool], list[tuple[int, int]]] = defaultdict(list)
        for number, pool in enumerate(pools):
            for picture, scene in enumerate(pool.scenes):
                tiles = pool.offsets[picture + 1] - pool.offsets[picture]
                groups[tiles, len(scene.shapes) == 2].append((number, picture))
        self._groups = dict(groups)

    def draw(self, rng: Random, size: int, *, pairs: bool = False) -> Batch:
        """Return a random batch of at most that many pictures, with `pairs` of two shapes each.

        Raises ValueError if there is no such picture.
        """
        groups = [group for (_, pair), group in self._groups.items() if pair or not pairs]
        if not groups:
            raise ValueError("no picture of the pools has just two shapes")
        group = rng.choices(groups, [len(group) for group in groups])[0]
        chosen = [(self._pools[pool], picture) for pool, picture in rng.sample(group, min(size, len(group)))]
        labels = np.concatenate([pool.labels_of(picture) for pool, picture in chosen])
        return Batch(
            scenes=tuple(pool.scenes[picture] for pool, picture in chosen),
            tiles=tuple(pool.tiles_of(picture) for pool, picture in chosen),
            labels=torch.from_numpy(labels).long().to(torch.get_default_device()),
        )
