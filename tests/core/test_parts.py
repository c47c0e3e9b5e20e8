"""Where a prompt is cut, and what is in a part of it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from runtime.backend import Images
from runtime.parts import images_within, next_part, symbols_of

PICTURES = (slice(3, 8), slice(10, 12))
IMAGES = Images(
    tiles=torch.arange(5.0).view(5, 1, 1, 1),
    counts=(3, 2),
    sizes=((30, 150), (150, 30)),
    digests=(b"\x00" * 31 + b"\x06", b"\x00" * 31 + b"\x07"),
)
"""The first of three tiles, the second of two; each tile holds its number."""


@dataclass(frozen=True)
class Prompt:
    """Some length, and pictures within it."""

    length: int
    pictures: tuple[slice, ...]


@st.composite
def prompts(draw: st.DrawFn) -> Prompt:
    """Text and pictures by turns, either of which may be missing between two of the other."""
    length, pictures = draw(st.integers(1, 9)), []
    for tokens in draw(st.lists(st.integers(1, 12), max_size=5)):
        pictures.append(slice(length, length + tokens))
        length += tokens + draw(st.integers(0, 9))
    return Prompt(length, tuple(pictures))


@pytest.mark.parametrize(
    ("start", "longest", "stop"),
    [
        (0, None, 14),  # all without a limit
        (0, 2, 2),
        (0, 3, 3),  # just before a picture
        (0, 5, 3),  # not within it
        (3, 2, 8),  # but whole, when the part begins with it
        (3, 5, 8),
        (3, 8, 10),
        (8, 100, 14),  # no more than there is
    ],
)
def test_part_after_a_start(start: int, longest: int | None, stop: int) -> None:
    """Of a prompt of 14 tokens with pictures at 3 to 7 and 10 to 11."""
    assert next_part(start, 14, longest, PICTURES) == slice(start, stop)


@given(prompts(), st.integers(1, 20))
def test_parts_cover_the_prompt(prompt: Prompt, longest: int) -> None:
    """One behind the other, none empty, none cuts a picture, and only a single picture is longer than the limit."""
    parts, stop = [], 0
    while stop < prompt.length:
        parts.append(next_part(stop, prompt.length, longest, prompt.pictures))
        assert parts[-1].start == stop
        assert parts[-1].stop > stop
        stop = parts[-1].stop
    assert stop == prompt.length
    for part in parts:
        for picture in prompt.pictures:
            assert not picture.start < part.stop < picture.stop
        assert part.stop - part.start <= longest or part in prompt.pictures


@given(prompts(), st.integers(1, 20))
def test_every_picture_is_in_one_part(prompt: Prompt, longest: int) -> None:
    """In its order, with all of its tiles."""
    count = len(prompt.pictures)
    images = Images(
        tiles=torch.arange(2.0 * count).view(2 * count, 1, 1, 1),
        counts=(2,) * count,
        sizes=tuple((number, number) for number in range(count)),
        digests=tuple(bytes([number]) for number in range(count)),
    )
    found: list[tuple[float, tuple[int, int], bytes]] = []
    stop = 0
    while stop < prompt.length:
        part = next_part(stop, prompt.length, longest, prompt.pictures)
        within = images_within(images if count else None, prompt.pictures, part)
        if within is not None:
            assert within.counts == (2,) * len(within.sizes)
            firsts = within.tiles.flatten()[::2].tolist()
            found += zip(firsts, within.sizes, within.digests, strict=True)
        stop = part.stop
    assert found == [(2.0 * number, (number, number), bytes([number])) for number in range(count)]


def test_pictures_of_a_part() -> None:
    """The second picture with its own tiles; a part of text has none."""
    within = images_within(IMAGES, PICTURES, slice(8, 14))
    assert within is not None
    assert within.tiles.flatten().tolist() == [3, 4]
    assert (within.counts, within.sizes, within.digests) == ((2,), ((150, 30),), IMAGES.digests[1:])
    assert images_within(IMAGES, PICTURES, slice(12, 14)) is None
    assert images_within(IMAGES, PICTURES, slice(0, 14)) is IMAGES
    assert images_within(None, (), slice(0, 14)) is None


def test_symbols_of_a_prompt() -> None:
    """Ids as they are; for each placeholder the digest of its picture, below all ids."""
    tokens = (1, 7, 7, *[99] * 5, 7, 7, *[99] * 2, 7, 7)
    assert symbols_of(tokens, IMAGES, PICTURES) == (1, 7, 7, *[-7] * 5, 7, 7, *[-8] * 2, 7, 7)
    assert symbols_of(tokens, None, ()) == tokens


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_symbols_tell_pictures_apart(one: bytes, other: bytes) -> None:
    """They are equal exactly when the digests are, and never an id."""
    first, second = (
        symbols_of((99,), Images(IMAGES.tiles[:1], (1,), ((2, 2),), (digest,)), (slice(0, 1),))[0]
        for digest in (one, other)
    )
    assert (first == second) == (one == other)
    assert first < 0
