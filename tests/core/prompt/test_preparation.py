"""Prompts as a server makes them."""

from __future__ import annotations

import io
from collections.abc import Awaitable, Iterator

import pytest
import torch
from PIL import Image
from runtime.backend import ModelSpec
from runtime.errors import ContextExceeded, ImageRefused
from runtime.intake.decoders import Decoders, DecodeTimes
from runtime.intake.fetch import Fetcher
from runtime.intake.limits import IntakeLimits
from runtime.intake.pictures import PictureIntake
from runtime.intake.policy import UrlPolicy
from runtime.prompt.builder import Prompt, PromptBuilder
from runtime.prompt.preparation import PendingPrompt, PromptPreparer
from runtime.prompt.tiles import cutting_of
from runtime.prompt.tokenizer import Tokenizer
from runtime.runtime import GenerateRequest, ImagePart, ImageUrlPart, TextPart

pytestmark = pytest.mark.anyio

LIMITS = IntakeLimits()


@pytest.fixture(scope="module")
def builder(spec: ModelSpec, tokenizer: Tokenizer) -> PromptBuilder:
    """For the demo model."""
    return PromptBuilder(spec, tokenizer, None, LIMITS, 600)


@pytest.fixture(scope="module")
def preparer(builder: PromptBuilder, spec: ModelSpec) -> Iterator[PromptPreparer]:
    """With one process for pictures."""
    assert spec.images is not None
    decoders = Decoders(1, LIMITS, cutting_of(spec.images), DecodeTimes(wall=120, patience=120))
    made = PromptPreparer(builder, PictureIntake(Fetcher(UrlPolicy(), LIMITS.max_bytes), decoders, LIMITS))
    made.start()
    yield made
    made.close()


def picture(width: int, height: int) -> ImagePart:
    buffer = io.BytesIO()
    Image.effect_noise((width, height), 80).convert("RGB").save(buffer, "PNG")
    return ImagePart(buffer.getvalue())


async def test_equal_to_the_builder(builder: PromptBuilder, preparer: PromptPreparer) -> None:
    """Tokens, places and pictures do not depend on where pictures are decoded."""
    parts = (picture(60, 40), TextPart("What"), picture(40, 113), TextPart("is this?"))
    pending = preparer.prepare(GenerateRequest(parts))
    assert isinstance(pending, PendingPrompt)
    assert isinstance(pending, Awaitable)
    ours, theirs = await pending, builder.build(GenerateRequest(parts))
    assert (ours.tokens, ours.places) == (theirs.tokens, theirs.places)
    assert ours.images is not None
    assert theirs.images is not None
    assert torch.equal(ours.images.tiles, theirs.images.tiles)
    assert (ours.images.sizes, ours.images.digests) == (theirs.images.sizes, theirs.images.digests)
    assert all(set(each.seconds) == {"fetch", "decode", "tile"} for each in (*ours.pictures, *theirs.pictures))


async def test_text_needs_no_waiting(preparer: PromptPreparer) -> None:
    """It is a prompt at once."""
    prompt = preparer.prepare(GenerateRequest((TextPart("What is this?"),)))
    assert isinstance(prompt, Prompt)
    assert prompt.images is None


async def test_hopeless_requests_fetch_nothing(preparer: PromptPreparer) -> None:
    """They are refused before anything is awaited; one that is never awaited costs nothing, and warns of nothing."""
    parts = tuple([ImageUrlPart("http://127.0.0.1/")] * 16)
    with pytest.raises(ContextExceeded, match="at least 784 tokens, 784 of them for pictures"):
        preparer.prepare(GenerateRequest(parts))
    preparer.prepare(GenerateRequest(parts[:2]))


async def test_the_last_refusals_come_when_it_is_awaited(preparer: PromptPreparer) -> None:
    """What only the decoded pictures tell."""
    large = preparer.prepare(GenerateRequest(tuple([picture(112, 112)] * 4)))
    damaged = preparer.prepare(GenerateRequest((picture(60, 40), ImagePart(b"no"))))
    assert isinstance(large, PendingPrompt)
    assert isinstance(damaged, PendingPrompt)
    with pytest.raises(ContextExceeded, match="takes at most 600"):
        await large
    with pytest.raises(ImageRefused, match="picture 1: it is not"):
        await damaged
