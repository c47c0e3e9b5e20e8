"""What a slot holds, as a prompt that another backend can compute from its start."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from runtime.backend import Images, ModelSpec
from runtime.geometry import feature_count


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of a slot."""

    place: slice
    """Of its placeholders."""
    image: Images
    """It alone; its tiles are a view of those of the batch it came with."""


@dataclass(slots=True)
class Held:
    """Tokens and pictures from position 0."""

    tokens: list[int]
    pictures: tuple[Picture, ...] = ()

    def cut(self, length: int) -> Held | None:
        """Return the first `length` tokens and the pictures in them; None when fewer are held."""
        if length > len(self.tokens):
            return None
        return Held(self.tokens[:length], tuple(each for each in self.pictures if each.place.stop <= length))

    def extend(self, tokens: Sequence[int], images: Images | None, model: ModelSpec) -> None:
        """Append a part of a prompt."""
        start = len(self.tokens)
        self.tokens += tokens
        if images is not None:
            self.pictures += tuple(_placed(tokens, start, images, model))

    @property
    def images(self) -> Images | None:
        """All pictures, as a prefill takes them; copies their tiles."""
        each = [picture.image for picture in self.pictures]
        if not each:
            return None
        return Images(
            tiles=torch.cat([image.tiles for image in each]),
            counts=tuple(count for image in each for count in image.counts),
            sizes=tuple(size for image in each for size in image.sizes),
            digests=tuple(digest for image in each for digest in image.digests),
        )


def _placed(tokens: Sequence[int], start: int, images: Images, model: ModelSpec) -> Iterator[Picture]:
    """Yield the pictures of a part: each has as many placeholders as feature rows, in their order."""
    assert model.images is not None
    assert model.image_token_id is not None
    end = 0
    tiles = torch.split(images.tiles, list(images.counts))
    for index, size in enumerate(images.sizes):
        begin = tokens.index(model.image_token_id, end)
        end = begin + feature_count(size, model.images)
        alone = Images(tiles[index], (images.counts[index],), (size,), (images.digests[index],))
        yield Picture(slice(start + begin, start + end), alone)
