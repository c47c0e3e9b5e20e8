"""The prompts of the kit: seeded random text, and pictures of noise."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch

from runtime.backend import Images, ModelSpec
from runtime.geometry import feature_count, tile_count

WORDS: Final = (3, 790)
"""First and last id that random text is made of: none that is special in the demo model."""
START: Final = 1
"""The token that every prompt begins with."""

Size = tuple[int, int]
"""Height and width of a picture, pixels."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """Token ids and pictures."""

    name: str
    tokens: tuple[int, ...]
    images: Images | None = None
    places: tuple[slice, ...] = ()
    """Where the placeholders of each picture lie."""

    def __len__(self) -> int:
        return len(self.tokens)


def text(name: str, length: int, seed: int) -> Prompt:
    """Return a prompt of so many tokens without pictures."""
    return Prompt(name, (START, *_words(length - 1, _generator(seed))))


def shown(name: str, sizes: Sequence[Size], model: ModelSpec, seed: int, words: int = 5) -> Prompt:
    """Return a prompt with pictures of these sizes, `words` tokens of text behind each."""
    assert model.images is not None
    assert model.image_token_id is not None
    generator = _generator(seed)
    tokens, places, tiles = [START], [], []
    for size in sizes:
        side, count = model.images.tile, feature_count(size, model.images)
        tiles.append(torch.randn(tile_count(size, model.images), 3, side, side, generator=generator))
        places.append(slice(len(tokens), len(tokens) + count))
        tokens += [*[model.image_token_id] * count, *_words(words, generator)]
    images = Images(
        tiles=torch.cat(tiles),
        counts=tuple(len(each) for each in tiles),
        sizes=tuple(sizes),
        digests=tuple(hashlib.sha256(each.numpy().tobytes()).digest() for each in tiles),
    )
    return Prompt(name, tuple(tokens), images, tuple(places))


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _words(count: int, generator: torch.Generator) -> list[int]:
    first, last = WORDS
    words: list[int] = torch.randint(first, last + 1, (count,), generator=generator).tolist()
    return words
