"""LLaVA-NeXT with a Mistral or Llama decoder, or such a decoder alone: one loaded model without its cache of keys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

import torch

from runtime.backend import Images, ModelSpec
from runtime.static.decoder import Attention, Decoder
from runtime.static.image_cache import ImageCache, PictureKey
from runtime.static.kernels import Kernels
from runtime.static.pictures import feature_index
from runtime.static.vision import VisionTower
from runtime.static.weights import Weights

Step = TypeVar("Step")


class LlavaNext(Generic[Step]):
    """The decoder, and for a vision model the tower and what was seen before."""

    def __init__(
        self,
        model: ModelSpec,
        weights: Weights,
        kernels: Kernels,
        attention: Attention[Step],
        context: int,
        cache_bytes: int,
    ) -> None:
        """`context` is the longest position of a row, `cache_bytes` the size of the cache of picture features.

        Raises BackendRefused.
        """
        self.decoder = Decoder(model, weights, kernels, attention, context)
        self.cache = ImageCache(cache_bytes)
        self.encoded_tiles = 0
        self._images = model.images
        if model.images is not None and model.vision is not None:
            self._tower = VisionTower(model.vision, model.images, model.hidden, weights, kernels)
            self._newline = weights.tensor("image_newline", model.hidden)

    def pictures(self, images: Images) -> Iterator[torch.Tensor]:
        """Yield the vectors that stand for each picture of a row: [tokens, hidden]."""
        tiles = torch.split(images.tiles, list(images.counts))
        for pixels, size, digest in zip(tiles, images.sizes, images.digests, strict=True):
            key = PictureKey(digest, size, len(pixels))
            features = self.cache.get(key)
            if features is None:
                features = self._encoded(pixels, size)
                self.cache.put(key, features)
            yield features

    def encode(self, tiles: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Return the vectors that stand for a picture, by `feature_index`: [tokens, hidden].

        tiles [tiles, 3, side, side] in the dtype of the weights; index int64 [tokens]; both on the device.
        """
        table = torch.cat([self._tower(tiles), self._newline.unsqueeze(0)])
        return table.index_select(0, index)

    def stages(self, images: Sequence[Images | None], layers: bool) -> dict[str, torch.Tensor]:
        """Return the stages of `runtime.hookspecs` up to the projector, of the pictures of all rows; none of none."""
        tiles = [of_row.tiles for of_row in images if of_row is not None]
        if not tiles:
            return {}
        tower = self._tower
        pixels = torch.cat(tiles).to(tower.device, tower.dtype)
        states = tower.states(pixels)
        features = tower.features(states, len(pixels))
        found = {"vision": features, "projector": tower.project(features)}
        if layers:
            found |= {f"vision.{index}": state for index, state in enumerate(states)}
        return {"pixels": pixels} | {
            name: tensor.view(len(pixels), -1, tensor.shape[-1]) for name, tensor in found.items()
        }

    def stats(self) -> dict[str, float]:
        """Return counters for `stats`: what the cache of picture features saved, and what was encoded."""
        return {
            "image_cache_hits": self.cache.hits,
            "image_cache_misses": self.cache.misses,
            "image_cache_bytes": self.cache.bytes,
            "encoded_tiles": self.encoded_tiles,
        }

    def _encoded(self, tiles: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        assert self._images is not None
        self.encoded_tiles += len(tiles)
        index = feature_index(size, self._images).to(self._tower.device)
        return self.encode(tiles.to(self._tower.device, self._tower.dtype), index)
