"""Requests to token ids and pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from runtime.backend import ImageGeometry, ModelSpec
from runtime.errors import (
    ContextExceeded,
    ImageRefused,
    ImageUrlNotEnabled,
    InvalidRequest,
    ModelRefused,
    TemplateError,
)
from runtime.geometry import feature_count, tile_count
from runtime.intake.limits import IntakeLimits
from runtime.prompt.builder import PromptBuilder
from runtime.prompt.chat import ChatTemplate
from runtime.prompt.tokenizer import Tokenizer
from runtime.runtime import GenerateRequest, ImagePart, ImageUrlPart, Message, Part, TextPart, TokensPart

IMAGE = 800


def picture(height: int, width: int) -> Image.Image:
    return Image.merge("RGB", [Image.effect_noise((width, height), 50 + channel) for channel in range(3)])


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


PICTURES = [picture(20, 20), picture(100, 40), picture(33, 150)]
PARTS = [ImagePart(png(image)) for image in PICTURES]
PARTS_BY_SIZE = {(image.height, image.width): part for image, part in zip(PICTURES, PARTS, strict=True)}


def text(*parts: Part | str, **fields: Any) -> GenerateRequest:
    return GenerateRequest(tuple(TextPart(part) if isinstance(part, str) else part for part in parts), **fields)


def talk(*parts: Part | str) -> GenerateRequest:
    return GenerateRequest(messages=(Message("user", text(*parts).parts),))


@pytest.fixture(scope="module")
def chat(folder: Path, tokenizer: Tokenizer) -> ChatTemplate | None:
    """The demo model's template."""
    return ChatTemplate.load(folder, tokenizer)


@pytest.fixture(scope="module")
def builder(spec: ModelSpec, tokenizer: Tokenizer, chat: ChatTemplate | None) -> PromptBuilder:
    """For the demo model, with room for many pictures."""
    return PromptBuilder(spec, tokenizer, chat, IntakeLimits(), 4000)


@pytest.mark.parametrize(
    "prompt",
    [
        "What is this?",
        " leading and trailing ",
        "[INST] <image>\nWhat is this? [/INST]",
        "<image>",
        "<image>What",
        "What<image>",
        "a <image> b <image> c",
        "<image><image>",
        "<image>\n<image>What differs? </s>",
        "<image> <image>  <image>é🙂",
    ],
)
def test_prompts_equal_transformers(prompt: str, builder: PromptBuilder, processor: Any) -> None:
    """Ids, tiles and sizes are those of its processor for the same string, wherever the pictures are."""
    texts = prompt.split("<image>")
    count = len(texts) - 1
    parts: list[Part | str] = [texts[0]]
    for part, following in zip(PARTS, texts[1:], strict=False):
        parts += [part, following]
    built = builder.build(text(*parts))
    theirs = processor(text=prompt, images=PICTURES[:count] or None, return_tensors="pt")
    assert list(built.tokens) == theirs["input_ids"][0].tolist()
    assert built.input_length == theirs["input_ids"].shape[1]
    if not count:
        assert built.images is None
        return
    assert built.images is not None
    assert [list(size) for size in built.images.sizes] == theirs["image_sizes"].tolist()
    split = torch.split(built.images.tiles, list(built.images.counts))
    for ours, padded in zip(split, theirs["pixel_values"], strict=True):
        assert torch.equal(ours, padded[: len(ours)])


def test_a_conversation_equals_transformers(builder: PromptBuilder, processor: Any) -> None:
    """The template has no BOS, so the tokenizer adds it, once."""
    built = builder.build(talk("What is this?", PARTS[1]))
    theirs = processor(text="[INST] <image>\nWhat is this? [/INST]", images=PICTURES[1:2])["input_ids"][0]
    assert list(built.tokens) == list(theirs)


@given(
    st.lists(
        st.sampled_from(PARTS)
        | st.sampled_from(["<image>", "<ima", "ge>", "What", " ", "", "</s>", "é"]).map(TextPart)
        | st.lists(st.integers(0, 799), max_size=3).map(tuple).map(TokensPart),
        max_size=8,
    ),
    st.booleans(),
)
@settings(max_examples=80, deadline=None)
def test_placeholders_equal_features(
    builder: PromptBuilder, demo: ImageGeometry, parts: list[Part], as_message: bool
) -> None:
    """Always as many image tokens as the pictures have features, for prompts and conversations."""
    request = talk(*(part for part in parts if not isinstance(part, TokensPart))) if as_message else text("a", *parts)
    prompt = builder.build(request)
    sizes = prompt.images.sizes if prompt.images else ()
    assert [PARTS_BY_SIZE[size] for size in sizes] == [part for part in parts if isinstance(part, ImagePart)]
    assert prompt.tokens.count(IMAGE) == sum(feature_count(size, demo) for size in sizes)
    if prompt.images:
        assert prompt.images.counts == tuple(tile_count(size, demo) for size in sizes)
        assert prompt.images.tiles.shape[0] == sum(prompt.images.counts)
        assert len(set(prompt.images.digests)) == len(set(sizes))
        assert tuple(picture.tiles for picture in prompt.pictures) == prompt.images.counts
    assert [picture.tokens for picture in prompt.pictures] == [feature_count(size, demo) for size in sizes]
    assert all(list(picture.seconds) == ["fetch", "decode", "tile"] for picture in prompt.pictures)
    assert all(seconds >= 0 for picture in prompt.pictures for seconds in picture.seconds.values())


def test_a_picture_may_come_as_a_data_uri(builder: PromptBuilder) -> None:
    """Both ways give one prompt."""
    uri = "data:image/png;base64," + base64.b64encode(PARTS[0].data).decode()
    by_reference, by_value = builder.build(text(ImageUrlPart(uri))), builder.build(text(PARTS[0]))
    assert by_reference.tokens == by_value.tokens
    assert by_reference.images is not None
    assert by_value.images is not None
    assert by_reference.images.digests == by_value.images.digests


def test_token_ids_are_taken_as_they_are(builder: PromptBuilder, tokenizer: Tokenizer) -> None:
    """BOS is added to a text that begins the prompt, not to ids and not to a text behind them."""
    assert builder.build(text(TokensPart((5, 801, 1)))).tokens == (5, 801, 1)
    what = tokenizer.encode("What", add_special_tokens=False)
    assert builder.build(text("What", TokensPart((5,)), "What")).tokens == (1, *what, 5, *what)
    assert builder.build(text(TokensPart((5,)), "What")).tokens == (5, *what)
    assert builder.build(text("", TokensPart(()), "What")).tokens == (1, *what)


def test_special_tokens_can_be_left_out(builder: PromptBuilder, tokenizer: Tokenizer) -> None:
    """For callers whose text has them."""
    ids = tokenizer.encode("<s>What", add_special_tokens=False)
    assert ids[0] == 1
    assert builder.build(text("<s>What", add_special_tokens=False)).tokens == tuple(ids)


def test_a_template_with_bos_gets_no_second_one(spec: ModelSpec, tokenizer: Tokenizer) -> None:
    """Whatever the request says."""
    chat = ChatTemplate("{{ bos_token }}[INST] hi", tokenizer.bos_token, tokenizer.eos_token)
    builder = PromptBuilder(spec, tokenizer, chat, IntakeLimits(), 100)
    tokens = builder.build(talk("a")).tokens
    assert tokens.count(1) == 1
    assert tokens[0] == 1


def refusal(builder: PromptBuilder, request: GenerateRequest, kind: type[InvalidRequest] = InvalidRequest) -> str:
    with pytest.raises(kind) as caught:
        builder.build(request)
    assert caught.type is kind
    message: str = caught.value.message
    return message


def test_contradictions_and_emptiness(builder: PromptBuilder) -> None:
    """A request is a prompt or a conversation, and holds something."""
    for empty in (text(), text(""), text("", ""), text(TokensPart(()))):
        assert "empty" in refusal(builder, empty)
    assert "both" in refusal(builder, replace(talk("a"), parts=(TextPart("b"),)))
    assert "token ids" in refusal(builder, talk(TokensPart((4,))))


@pytest.mark.parametrize("id", [-1, 802, 2**40, IMAGE])
def test_ids_that_cannot_be_sent(builder: PromptBuilder, id: int) -> None:
    """Outside the vocabulary, or the placeholder of pictures."""
    assert f"token id {id} is" in refusal(builder, text("a", TokensPart((3, id))))


def test_pictures_that_cannot_be_used(builder: PromptBuilder) -> None:
    """The text names the picture by its place."""
    assert "picture 1: " in refusal(builder, text(PARTS[0], ImagePart(b"no")), ImageRefused)
    assert "picture 0: " in refusal(builder, talk(ImageUrlPart("http://a/b")), ImageUrlNotEnabled)


def test_thin_pictures_are_refused(spec: ModelSpec, tokenizer: Tokenizer, llava: ImageGeometry) -> None:
    """Nothing of their detailed view would remain; one pixel less and two rows do."""
    builder = PromptBuilder(replace(spec, images=llava), tokenizer, None, IntakeLimits(), 2000)
    message = refusal(builder, text(PARTS[0], ImagePart(png(picture(4, 193)))), ImageRefused)
    assert message.startswith("picture 1: 4 x 193 pixels (height x width) are too thin")
    assert builder.build(text(ImagePart(png(picture(4, 192))))).tokens.count(IMAGE) == 576 + 2 * 49


def test_a_text_model_takes_no_pictures(spec: ModelSpec, folder: Path) -> None:
    """Also not in messages; its text is text."""
    text_spec = replace(spec, image_token_id=None, images=None)
    builder = PromptBuilder(text_spec, Tokenizer.load(folder, None), ChatTemplate("x", "", ""), IntakeLimits(), 100)
    for request in (text("a", PARTS[0]), talk(PARTS[0])):
        assert "takes no pictures and the request has 1" in refusal(builder, request)
    assert builder.build(text("a")).images is None


def test_a_model_without_a_template_takes_no_messages(spec: ModelSpec, tokenizer: Tokenizer) -> None:
    """The text says what to do instead."""
    builder = PromptBuilder(spec, tokenizer, None, IntakeLimits(), 100)
    assert "no chat template" in refusal(builder, talk("a"), TemplateError)


def limited(spec: ModelSpec, tokenizer: Tokenizer, chat: ChatTemplate | None, max_input_tokens: int) -> PromptBuilder:
    return PromptBuilder(spec, tokenizer, chat, IntakeLimits(max_images=2), max_input_tokens)


def test_length_limit(spec: ModelSpec, tokenizer: Tokenizer, chat: ChatTemplate | None, demo: ImageGeometry) -> None:
    """Met exactly and missed by one; the text names both numbers and what the pictures cost."""
    cost = feature_count((20, 20), demo)
    length = len(tokenizer.encode("What is this?", add_special_tokens=True))
    request = text(PARTS[0], "What is this?")
    total = limited(spec, tokenizer, chat, 2000).build(request).input_length
    assert limited(spec, tokenizer, chat, total).build(request).input_length == total
    message = refusal(limited(spec, tokenizer, chat, total - 1), request, ContextExceeded)
    assert f"has {total} tokens, {cost} of them for pictures, and this server takes at most {total - 1}" in message
    short = limited(spec, tokenizer, chat, 2)
    assert f"has {length} tokens and" in refusal(short, text("What is this?"), ContextExceeded)


BROKEN: Sequence[ImagePart] = [ImagePart(b"broken")]


def test_hopeless_requests_are_refused_before_pictures_are_decoded(
    spec: ModelSpec, tokenizer: Tokenizer, chat: ChatTemplate | None
) -> None:
    """The pictures here cannot be decoded, so any other refusal came first."""
    builder = limited(spec, tokenizer, chat, 60)
    assert "3 pictures and this server takes at most 2" in refusal(builder, text(*BROKEN * 3))
    assert "at least 98 tokens, 98 of them for pictures" in refusal(
        builder, talk(*BROKEN * 2), ContextExceeded
    )  # 7 x 7 each
    assert "at least 62 tokens, 49 of them" in refusal(builder, text(*BROKEN, TokensPart((5,) * 13)), ContextExceeded)
    assert "at least" in refusal(builder, text(*BROKEN, "x" * (64 * 61)), ContextExceeded)
    many = GenerateRequest(messages=(Message("user", ()),) * 61)
    assert "messages cannot fit" in refusal(builder, many, ContextExceeded)


def test_a_tokenizer_of_another_model_is_refused(spec: ModelSpec, tokenizer: Tokenizer) -> None:
    """Its ids would be outside the embedding table."""
    with pytest.raises(ModelRefused, match="ids up to 801"):
        PromptBuilder(replace(spec, vocabulary=801), tokenizer, None, IntakeLimits(), 100)


def test_many_threads_agree(builder: PromptBuilder) -> None:
    """One builder serves a pool."""
    requests = [text("What", PARTS[0]), talk(PARTS[1], "this?"), text("a b c"), talk("hello")] * 8
    with ThreadPoolExecutor(4) as pool:
        built = [prompt.tokens for prompt in pool.map(builder.build, requests)]
    assert built == [builder.build(request).tokens for request in requests[:4]] * 8


def test_truncate_leaves_out_the_oldest_text(
    spec: ModelSpec, tokenizer: Tokenizer, chat: ChatTemplate | None, demo: ImageGeometry
) -> None:
    """The last tokens stay, and the first, which begins the sequence; a picture stays whole and in its place."""
    builder = limited(spec, tokenizer, chat, 2000)
    whole = builder.build(text("one two three four five")).tokens
    for keep in range(2, len(whole) + 3):
        request = replace(text("one two three four five"), truncate=keep)
        kept = builder.build(request).tokens
        assert kept == (whole if keep >= len(whole) else (whole[0], *whole[1 - keep :]))
    cost = feature_count((20, 20), demo)
    shown = replace(text("one two three", PARTS[0], "four five"), truncate=cost + 2)
    tokens = builder.build(shown).tokens
    assert tokens[1 : 1 + cost] == (spec.image_token_id,) * cost
    assert tokens[1 + cost :] == builder.build(text("one two three", PARTS[0], "four five")).tokens[-1:]


def test_truncate_never_cuts_a_picture(
    spec: ModelSpec, tokenizer: Tokenizer, chat: ChatTemplate | None, demo: ImageGeometry
) -> None:
    """A limit below what the pictures take is refused with both numbers, and so is one out of range."""
    cost = feature_count((20, 20), demo)
    builder = limited(spec, tokenizer, chat, 2000)
    request = text(PARTS[0], "What is this?")
    message = refusal(builder, replace(request, truncate=cost))
    assert f"`truncate` is {cost}, but the pictures alone take {cost}" in message
    for wrong in (0, 2001):
        message = refusal(builder, replace(request, truncate=wrong))
        assert f"from 1 to 2000, the most this server takes, got {wrong}" in message
