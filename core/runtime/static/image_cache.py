"""Features of pictures seen before, so that a second question about a picture skips the vision tower."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

import torch


class PictureKey(NamedTuple):
    """What a picture's features follow from, in one loaded model: same key, same features."""

    digest: bytes
    """256 bits over the decoded pixels, their mode and size."""
    size: tuple[int, int]
    """Original (height, width), pixels."""
    tiles: int


class ImageCache:
    """The features used last, bounded in bytes. One loaded model's, for its device thread only."""

    def __init__(self, limit: int) -> None:
        """`limit` is in bytes; 0 keeps nothing."""
        self._limit = limit
        self._features: OrderedDict[PictureKey, torch.Tensor] = OrderedDict()
        self.bytes = 0
        self.hits = 0
        self.misses = 0

    def get(self, key: PictureKey) -> torch.Tensor | None:
        """Return the features of a picture, [tokens, hidden]; nobody may write to them."""
        features = self._features.get(key)
        if features is None:
            self.misses += 1
            return None
        self.hits += 1
        self._features.move_to_end(key)
        return features

    def put(self, key: PictureKey, features: torch.Tensor) -> None:
        """Keep features, and drop those unused longest to make room; what is larger than the limit is not kept."""
        if features.nbytes > self._limit or key in self._features:
            return
        self._features[key] = features
        self.bytes += features.nbytes
        while self.bytes > self._limit:
            self.bytes -= self._features.popitem(last=False)[1].nbytes
