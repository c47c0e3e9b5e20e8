"""Random prompts with random pictures, the same for the same seed."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from PIL import Image

from runtime.backend import ImageGeometry, Images, ModelSpec
from runtime.geometry import feature_count
from runtime.prompt.tiles import cut_tiles

Size = tuple[int, int]
"""Height and width, pixels."""

BLOCKS: Final = 6
"""Patches of colour along each side of a picture, which are blurred into each other."""
GRAIN: Final = 24
"""Most that a pixel differs from its patch, of 255."""
FIRST_WORD: Final = 3
"""Ids below it begin, end and pad a text."""


class DoesNotFit(Exception):
    """The limits do not allow a case; the text says which and what to raise."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """Token ids and pictures."""

    tokens: tuple[int, ...]
    images: Images | None
    pictures: tuple[slice, ...]
    """Where the placeholders of each picture lie."""


class PromptMaker:
    """Makes the prompts of one case."""

    def __init__(self, model: ModelSpec, longest: int, seed: str) -> None:
        """`longest` is the most tokens of a prompt."""
        self.longest = longest
        self._model = model
        self._chance = random.Random(seed)  # noqa: S311
        forbidden = {model.image_token_id, *model.eos_ids}
        first = min(FIRST_WORD, model.vocabulary - 1)
        self._words = [token for token in range(first, model.vocabulary) if token not in forbidden]

    @property
    def tile(self) -> int:
        """Side of a tile, pixels; 1 for a text model, which has no use for it."""
        return 1 if self._model.images is None else self._model.images.tile

    def text(self, words: int) -> Prompt:
        """Return a prompt of random words, as many as fit."""
        return Prompt(self._some(min(words, self.longest)), None, ())

    def pictured(self, words: int, *sizes: Size) -> Prompt:
        """Return a prompt with pictures between its words; raises DoesNotFit."""
        geometry, placeholder = self._model.images, self._model.image_token_id
        if geometry is None or placeholder is None:
            raise DoesNotFit("the model sees no pictures")
        lengths = [feature_count(size, geometry) for size in sizes]
        words = min(words, self.longest - sum(lengths))
        if words < len(sizes) + 1:
            raise DoesNotFit(
                f"its pictures take {sum(lengths)} tokens and a prompt has room for {self.longest}; raise "
                "--max-input-tokens and --max-total-tokens"
            )
        tokens: list[int] = []
        places: list[slice] = []
        for length in lengths:
            tokens += self._some(words // (len(sizes) + 1))
            places.append(slice(len(tokens), len(tokens) + length))
            tokens += [placeholder] * length
        tokens += self._some(words + sum(lengths) - len(tokens))
        return Prompt(tuple(tokens), self._pictures(sizes, geometry), tuple(places))

    def pictured_or_text(self, words: int, size: Size) -> Prompt:
        """Return a prompt with a picture where that is possible, else one without."""
        try:
            return self.pictured(words, size)
        except DoesNotFit:
            return self.text(words)

    def those_that_fit(self, sizes: Sequence[Size], words: int) -> list[Prompt]:
        """Return a prompt for each picture that fits; raises DoesNotFit when none does."""
        prompts: list[Prompt] = []
        for size in sizes:
            try:
                prompts.append(self.pictured(words, size))
            except DoesNotFit as misfit:
                reason = misfit
        if not prompts:
            raise reason
        return prompts

    def _some(self, count: int) -> tuple[int, ...]:
        return tuple(self._chance.choices(self._words, k=count))

    def _pictures(self, sizes: Sequence[Size], geometry: ImageGeometry) -> Images:
        images = [self._picture(size) for size in sizes]
        tiles = [cut_tiles(image, geometry) for image in images]
        return Images(
            tiles=torch.cat(tiles),
            counts=tuple(map(len, tiles)),
            sizes=tuple(sizes),
            digests=tuple(hashlib.sha256(image.tobytes() + repr(image.size).encode()).digest() for image in images),
        )

    def _picture(self, size: Size) -> Image.Image:
        """Return patches of colour with grain: neither flat nor noise alone, so that every part of it counts."""
        height, width = size
        random_bits = np.random.default_rng(self._chance.getrandbits(64))
        colours = Image.fromarray(random_bits.integers(0, 256, (BLOCKS, BLOCKS, 3), dtype=np.uint8))
        blurred = np.asarray(colours.resize((width, height), Image.Resampling.BILINEAR), dtype=np.int16)
        grain = random_bits.integers(-GRAIN, GRAIN + 1, blurred.shape, dtype=np.int16)
        return Image.fromarray(np.clip(blurred + grain, 0, 255).astype(np.uint8))
