"""The pictures of a prefill, laid where their tokens stand, so that the prefill itself knows nothing of pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from runtime.backend import ImageGeometry, Images, PrefillBatch, VisionShape
from runtime.errors import BackendError
from runtime.geometry import feature_count
from runtime.static.graphs import Call, Graphs, Outputs
from runtime.static.image_cache import PictureKey
from runtime.static.model import LlavaNext
from runtime.static.pictures import feature_index, most_features


@dataclass(frozen=True, slots=True)
class LayingShape:
    """Key of the graph that lays the vectors of a picture into the buffer."""

    tiles: int


class PictureBuffer:
    """A vector for every token of a prefill; only those of placeholders are written, and only those are read.

    One graph encodes a picture and another lays its vectors, so that a picture seen before skips the first. Both are
    padded to the most tokens that its tiles can come to; what is too much goes to the scratch, the buffer's last row.
    """

    def __init__(
        self, model: LlavaNext[Any], geometry: ImageGeometry, image_token: int, graphs: Graphs, empty: torch.Tensor
    ) -> None:
        """`empty` is [0, hidden], of the device and dtype that vectors have."""
        self._model = model
        self._geometry = geometry
        self._image_token = image_token
        self._graphs = graphs
        self._vectors = empty  # [tokens + 1, hidden], once there is room

    @property
    def tokens(self) -> int:
        """How many there is room for."""
        return max(0, len(self._vectors) - 1)

    def reserve(self, tokens: int) -> None:
        """Make room for prefills of so many tokens, padding included; before any graph is made."""
        if tokens != self.tokens:
            self._vectors = self._vectors.new_zeros(tokens + 1, self._vectors.shape[1])

    def merged(self, hidden: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Put the vectors of pictures in the place of placeholders': hidden [tokens, hidden], tokens int64 [tokens]."""
        is_picture = (tokens == self._image_token).unsqueeze(1)
        return torch.where(is_picture, self._vectors.narrow(0, 0, len(hidden)), hidden)

    def fill(self, batch: PrefillBatch) -> None:
        """Lay every picture of a batch; raises BackendError where placeholders are not as many as vectors.

        A placeholder too many would show what an earlier prefill has left behind.
        """
        length = batch.tokens.shape[1]
        for row, (images, count) in enumerate(zip(batch.images, batch.lengths.tolist(), strict=True)):
            places = row * length + (batch.tokens[row, :count] == self._image_token).nonzero().flatten()
            sizes = [] if images is None else [feature_count(size, self._geometry) for size in images.sizes]
            if len(places) != sum(sizes):
                raise BackendError(f"row {row} has {len(places)} placeholders for {sum(sizes)} vectors of pictures")
            if images is not None:
                pictures = zip(images.counts, self._features(images), torch.split(places, sizes), strict=True)
                for tiles, features, held in pictures:
                    self._graphs.run(self._laying(tiles, features, held))

    def warm(self, shape: VisionShape) -> None:
        """Prepare what a picture of this shape takes."""
        side, nowhere = self._geometry.tile, torch.zeros(0, dtype=torch.int64)
        (features,) = self._graphs.warm(self._encoding(torch.zeros(shape.tiles, 3, side, side), nowhere))
        self._graphs.warm(self._laying(shape.tiles, features.clone(), nowhere))

    def _features(self, images: Images) -> Iterator[torch.Tensor]:
        """Yield the vectors of each picture, [most of its tiles, hidden]."""
        tiles = torch.split(images.tiles, list(images.counts))
        for pixels, size, digest in zip(tiles, images.sizes, images.digests, strict=True):
            key = PictureKey(digest, size, len(pixels))
            features = self._model.cache.get(key)
            if features is None:
                (encoded,) = self._graphs.run(self._encoding(pixels, feature_index(size, self._geometry)))
                features = encoded.clone()  # the next picture of so many tiles takes the place of what is encoded
                self._model.encoded_tiles += len(pixels)
                self._model.cache.put(key, features)
            yield features

    def _encoding(self, tiles: torch.Tensor, index: torch.Tensor) -> Call:
        """Encode tiles, float32 [tiles, 3, side, side], and gather vectors, int64 [tokens]; both on the host."""
        padded = self._padded(len(tiles), index, 0)
        return Call(VisionShape(len(tiles)), self._encode, (tiles.to(self._vectors.dtype), padded))

    def _encode(self, tiles: torch.Tensor, index: torch.Tensor) -> Outputs:
        return (self._model.encode(tiles, index),)

    def _laying(self, tiles: int, features: torch.Tensor, places: torch.Tensor) -> Call:
        """Lay the first vectors at places, int64 [tokens] on the host."""
        padded = self._padded(tiles, places, len(self._vectors) - 1)
        return Call(LayingShape(tiles), self._lay, (features, padded))

    def _lay(self, features: torch.Tensor, places: torch.Tensor) -> Outputs:
        self._vectors.index_copy_(0, places, features)
        return ()

    def _padded(self, tiles: int, places: torch.Tensor, value: int) -> torch.Tensor:
        return F.pad(places, (0, most_features(tiles, self._geometry) - len(places)), value=value)
