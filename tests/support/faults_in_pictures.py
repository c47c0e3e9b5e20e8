"""Mistakes between a picture and the embeddings of its tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from runtime.backend import PrefillBatch
from runtime.static import picture_buffer as buffer_module
from runtime.static import vision as vision_module
from runtime.static.image_cache import PictureKey
from runtime.static.kernels import TorchStaticKernels
from runtime.static.model import LlavaNext
from runtime.static.picture_buffer import PictureBuffer
from runtime.static.pictures import feature_index
from runtime.static.vision import VisionTower

Patch = pytest.MonkeyPatch


def image_cache_key(patch: Patch) -> None:
    """Features of pictures seen before found by size alone."""
    patch.setattr(buffer_module, "PictureKey", lambda digest, size, tiles: PictureKey(b"", size, tiles))


def no_newline(patch: Patch) -> None:
    """Zeros in the place of the newline feature."""
    right = LlavaNext.encode

    def wrong(self: Any, *given: torch.Tensor) -> torch.Tensor:
        newline, self._newline = self._newline, torch.zeros_like(self._newline)
        found = right(self, *given)
        self._newline = newline
        return found

    patch.setattr(LlavaNext, "encode", wrong)


def unpadding(patch: Patch) -> None:
    """Padding of portrait pictures cut at the right only."""

    def wrong(size: tuple[int, int], geometry: Any) -> torch.Tensor:
        index = feature_index(size, geometry)
        if size[0] <= size[1]:
            return index
        patches = (geometry.tile // geometry.patch) ** 2
        is_canvas = (torch.arange(len(index)) >= patches) & (index < index.max())
        return index.where(~is_canvas, (index - 1).clamp(min=patches))

    patch.setattr(buffer_module, "feature_index", wrong)


def image_order(patch: Patch) -> None:
    """Two pictures of a prompt in the wrong order."""
    right = PictureBuffer.fill

    def wrong(self: Any, batch: PrefillBatch) -> None:
        images = tuple(
            each and replace(each, tiles=torch.cat(each.tiles.split(each.counts)[::-1])) for each in batch.images
        )
        return right(self, replace(batch, images=images))

    patch.setattr(PictureBuffer, "fill", wrong)


def feature_layer(patch: Patch) -> None:
    """Features of the layer before the wanted one."""
    right = VisionTower.features

    def wrong(self: Any, states: list[torch.Tensor], tiles: int) -> torch.Tensor:
        return right(self, [states[0], *states[:-1]], tiles)

    patch.setattr(VisionTower, "features", wrong)


def class_token(patch: Patch) -> None:
    """The class token kept, and the last patch dropped in its place."""

    def wrong(self: Any, states: list[torch.Tensor], tiles: int) -> torch.Tensor:
        chosen = torch.cat([states[index] for index in self._wanted], -1).view(tiles, self._side**2 + 1, -1)
        return chosen[:, :-1].reshape(tiles * self._side**2, -1)

    patch.setattr(VisionTower, "features", wrong)


def vision_activation(patch: Patch) -> None:
    """GELU in the vision tower in the place of its approximation."""
    patch.setitem(vision_module.ACTIVATIONS, "quick_gelu", F.gelu)  # type: ignore[arg-type]


def vision_scale(patch: Patch) -> None:
    """Scores of the vision tower not scaled."""

    def attend(self: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return F.scaled_dot_product_attention(query, key, value, scale=1.0)

    patch.setattr(TorchStaticKernels, "attend", attend)


def vision_positions(patch: Patch) -> None:
    """Patches of the vision tower placed one too late."""
    right = VisionTower._embedded

    def wrong(self: Any, tiles: torch.Tensor) -> torch.Tensor:
        positions, self._positions = self._positions, self._positions.roll(1, 0)
        found = right(self, tiles)
        self._positions = positions
        return found

    patch.setattr(VisionTower, "_embedded", wrong)


def projector(patch: Patch) -> None:
    """The tanh form of GELU in the projector."""

    def wrong(self: Any, features: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self._project_out(F.gelu(self._project_in(features), approximate="tanh"))
        return hidden

    patch.setattr(VisionTower, "project", wrong)


def _pixels(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Patch], None]:
    def apply(patch: Patch) -> None:
        for name in ("stages", "fill"):
            owner: Any = LlavaNext if name == "stages" else PictureBuffer
            patch.setattr(owner, name, _changed(getattr(owner, name), change))

    return apply


def _changed(right: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    def wrong(self: Any, given: Any, *rest: Any) -> Any:
        images = given.images if isinstance(given, PrefillBatch) else given
        changed = tuple(each and replace(each, tiles=change(each.tiles)) for each in images)
        return right(self, replace(given, images=changed) if isinstance(given, PrefillBatch) else changed, *rest)

    return wrong


def transposed(patch: Patch) -> None:
    """Pixels with rows and columns swapped."""
    _pixels(lambda tiles: tiles.transpose(-1, -2))(patch)


def channels(patch: Patch) -> None:
    """Pixels in the order blue, green, red."""
    _pixels(lambda tiles: tiles.flip(1))(patch)


def normalised(patch: Patch) -> None:
    """Pixels normalised by a standard deviation of 0.5 in the place of 0.27."""
    _pixels(lambda tiles: tiles * 0.54)(patch)


def bf16_newline(patch: Patch) -> None:
    """Zeros in the place of the newline feature, in a bf16 backend."""
    no_newline(patch)


def bf16_class_token(patch: Patch) -> None:
    """The class token kept, in a bf16 backend."""
    class_token(patch)
