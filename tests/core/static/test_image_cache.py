"""Features of pictures seen before."""

from __future__ import annotations

import pytest
import torch
from runtime.static.image_cache import ImageCache, PictureKey

DIGEST = bytes(32)


def key(number: int) -> PictureKey:
    return PictureKey(bytes([number]) * 32, (30, 40), 3)


def features(number: int, count: int = 1) -> torch.Tensor:
    """16 bytes a token."""
    return torch.full((count, 4), float(number))


def test_what_was_put_is_found() -> None:
    """And nothing else; both are counted."""
    cache = ImageCache(1024)
    cache.put(key(1), features(1))
    found = cache.get(key(1))
    assert found is not None
    assert found.tolist() == features(1).tolist()
    assert cache.get(key(2)) is None
    assert (cache.hits, cache.misses, cache.bytes) == (1, 1, 16)


@pytest.mark.parametrize(
    "other",
    [
        PictureKey(DIGEST, (150, 30), 3),
        PictureKey(DIGEST, (30, 150), 4),
        PictureKey(b"\1" + DIGEST[1:], (30, 150), 3),
    ],
    ids=["the same bytes on their side", "another cut", "another digest"],
)
def test_twins_are_told_apart(other: PictureKey) -> None:
    """Everything that the features follow from is compared."""
    cache = ImageCache(1024)
    cache.put(PictureKey(DIGEST, (30, 150), 3), features(1))
    assert cache.get(other) is None


def test_the_one_unused_longest_makes_room() -> None:
    """The limit is in bytes, and is never passed."""
    cache = ImageCache(48)
    for number in (1, 2, 3):
        cache.put(key(number), features(number))
    cache.get(key(1))
    cache.put(key(4), features(4))
    assert cache.bytes == 48
    assert cache.get(key(2)) is None
    assert all(cache.get(key(number)) is not None for number in (1, 3, 4))


@pytest.mark.parametrize(("limit", "count"), [(48, 4), (0, 1)])
def test_what_is_larger_than_the_limit_is_not_kept(limit: int, count: int) -> None:
    """And nothing is dropped for it; a limit of 0 turns the cache off."""
    cache = ImageCache(limit)
    cache.put(key(1), features(1))
    cache.put(key(2), features(2, count))
    assert cache.get(key(2)) is None
    assert (cache.get(key(1)) is None) == (limit == 0)


def test_a_picture_is_kept_once() -> None:
    """Put twice, it counts once."""
    cache = ImageCache(48)
    cache.put(key(1), features(1))
    cache.put(key(1), features(1))
    assert cache.bytes == 16
