"""Prompts computed in parts: where they may be cut, and what is in a part. A picture is always within one part."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from runtime.backend import Images
from runtime.prefixes import Symbols


def next_part(start: int, length: int, longest: int | None, pictures: Sequence[slice]) -> slice:
    """Return the part of a prompt of `length` tokens that begins at `start`.

    It takes at most `longest` tokens, all without it, but never ends within a picture: then it ends before, or, when
    it begins with that picture, behind it.
    """
    stop = length if longest is None else min(start + longest, length)
    for picture in pictures:
        if picture.start < stop < picture.stop:
            stop = picture.start if picture.start > start else picture.stop
    return slice(start, stop)


def images_within(images: Images | None, pictures: Sequence[slice], part: slice) -> Images | None:
    """Return the pictures of a part, None when there are none; `pictures` says where each one's placeholders lie."""
    if images is None:
        return None
    chosen = [index for index, picture in enumerate(pictures) if part.start <= picture.start < part.stop]
    if len(chosen) == len(pictures):
        return images
    if not chosen:
        return None
    tiles = torch.split(images.tiles, list(images.counts))
    return Images(
        tiles=torch.cat([tiles[index] for index in chosen]),
        counts=tuple(images.counts[index] for index in chosen),
        sizes=tuple(images.sizes[index] for index in chosen),
        digests=tuple(images.digests[index] for index in chosen),
    )


def symbols_of(tokens: Sequence[int], images: Images | None, pictures: Sequence[slice]) -> Symbols:
    """Return what a prompt leaves in its slot: its ids, and for placeholders the picture they stand for.

    The number of a picture is its digest, 256 bits over pixels, mode and size: no other picture has it.
    """
    if images is None:
        return tuple(tokens)
    symbols = list(tokens)
    for digest, picture in zip(images.digests, pictures, strict=True):
        number = -1 - int.from_bytes(digest, "big")
        symbols[picture] = [number] * (picture.stop - picture.start)
    return tuple(symbols)
