"""What a slot holds, put together from parts; prompts and pictures of `runtime verify`, which knows where each lies."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from runtime.parts import images_within, next_part
from runtime.shadow.held import Held
from runtime.verify.prompts import PromptMaker
from support.serving import MODEL

PROMPT = PromptMaker(MODEL, 4000, "held").pictured(40, (40, 60), (90, 30), (20, 20))


def in_parts(longest: int) -> Held:
    """The prompt as a slot gets it, in parts of at most so many tokens."""
    held, start, length = Held([]), 0, len(PROMPT.tokens)
    while start < length:
        part = next_part(start, length, longest, PROMPT.pictures)
        held.extend(PROMPT.tokens[part], images_within(PROMPT.images, PROMPT.pictures, part), MODEL)
        start = part.stop
    return held


@given(st.integers(1, len(PROMPT.tokens)))
def test_parts_make_the_prompt(longest: int) -> None:
    """With every picture in its place, whole."""
    held = in_parts(longest)
    assert tuple(held.tokens) == PROMPT.tokens
    assert tuple(picture.place for picture in held.pictures) == PROMPT.pictures
    assert held.images is not None
    assert PROMPT.images is not None
    assert torch.equal(held.images.tiles, PROMPT.images.tiles)
    assert (held.images.counts, held.images.sizes) == (PROMPT.images.counts, PROMPT.images.sizes)
    assert held.images.digests == PROMPT.images.digests


def test_beginning() -> None:
    """A prompt that begins alike has the pictures of the beginning; more than is held nobody knows."""
    held, second = in_parts(10_000), PROMPT.pictures[1]
    for length, pictures in ((second.stop, 2), (second.start, 1), (1, 0), (len(PROMPT.tokens), 3)):
        beginning = held.cut(length)
        assert beginning is not None
        assert (len(beginning.tokens), len(beginning.pictures)) == (length, pictures)
    beginning = held.cut(1)
    assert beginning is not None
    assert beginning.images is None
    assert held.cut(len(PROMPT.tokens) + 1) is None
