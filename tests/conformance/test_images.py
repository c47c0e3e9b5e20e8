"""What a picture costs: the test vectors of TGI's router (router/src/config.rs), and the true values where it errs."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from PIL import Image
from runtime.geometry import canvas_size, feature_count
from runtime.intake.limits import IntakeLimits
from runtime.prompt.builder import PromptBuilder
from runtime.prompt.chat import ChatTemplate
from runtime.runtime import GenerateRequest, ImagePart, TextPart
from support.geometries import LLAVA_IMAGES as LLAVA
from support.serving import MODEL, TOKENIZER

VECTORS = [
    # (height, width), TGI's tokens, true tokens
    ((20, 20), 1176, 1176),
    ((640, 640), 2928, 2928),
    ((480, 640), 2340, 2340),
    ((899, 1024), 2634, 2634),
    ((1067, 1600), 2144, 2144),
    ((1080, 1920), 1948, 1948),
    ((300, 1000), 776, 2182),
    ((1000, 300), 792, 2232),
    ((336, 672), 876, 1752),
    ((672, 336), 888, 1776),
]


@pytest.mark.parametrize(("size", "theirs", "ours"), VECTORS)
def test_tokens_of_a_picture(size: tuple[int, int], theirs: int, ours: int) -> None:
    """Equal to TGI's for square grids of tiles.

    On grids that are not square TGI takes rows for columns, on purpose, to agree with an old release of the model; its
    shard then finds other features than placeholders and ends (text-generation-inference issue 1777). True are the
    features the model makes; tests/core/test_geometry.py compares with transformers at every size.
    """
    height, width = canvas_size(size, LLAVA)
    assert feature_count(size, LLAVA) == ours
    assert (theirs == ours) or height != width


@pytest.mark.parametrize(("size", "ours"), [(size, ours) for size, _, ours in VECTORS])
def test_placeholders_in_a_prompt(size: tuple[int, int], ours: int) -> None:
    """A prompt holds as many placeholders, whatever is typed beside the picture."""
    model = replace(MODEL, images=LLAVA)
    intake = IntakeLimits(max_bytes=2**20, max_pixels=2**22, max_images=1)
    builder = PromptBuilder(model, TOKENIZER, ChatTemplate.load(MODEL.path, TOKENIZER), intake, 4096)
    picture = io.BytesIO()
    Image.new("RGB", size[::-1]).save(picture, "PNG")
    prompt = builder.build(GenerateRequest((ImagePart(picture.getvalue()), TextPart("What is this <image>?\n\n"))))
    assert prompt.tokens.count(MODEL.image_token_id) == ours
