"""What a prompt costs: its pictures, and how much is computed for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runtime.backend import Images


@dataclass(frozen=True, slots=True)
class ImageCost:
    """What one picture adds to a prompt."""

    tiles: int
    """Squares the vision tower sees, the one of the whole picture included."""
    tokens: int


@dataclass(frozen=True, slots=True)
class PromptCost:
    """What a prompt takes; it has `cached_tokens + bucket - padding` tokens."""

    images: tuple[ImageCost, ...] = ()
    """In the order of the prompt."""
    cached_tokens: int = 0
    """Tokens of its beginning that an earlier prompt left computed."""
    bucket: int | None = None
    """Tokens computed for the others, padding included; of a prompt in parts, of all together. None: not known."""
    padding: int | None = None
    """Tokens of the bucket that are not the prompt's."""

    @classmethod
    def of(
        cls, length: int, images: Images | None, places: Sequence[slice], bucket: int | None, cached_tokens: int = 0
    ) -> PromptCost:
        """Return the cost of a prompt of `length` tokens; `places` says where each picture's placeholders lie."""
        counts = () if images is None else images.counts
        return cls(
            images=tuple(
                ImageCost(tiles, place.stop - place.start) for tiles, place in zip(counts, places, strict=True)
            ),
            cached_tokens=cached_tokens,
            bucket=bucket,
            padding=None if bucket is None else bucket - (length - cached_tokens),
        )

    @property
    def image_tokens(self) -> int:
        """Tokens of all pictures."""
        return sum(image.tokens for image in self.images)

    @property
    def image_tiles(self) -> int:
        """Tiles of all pictures."""
        return sum(image.tiles for image in self.images)
