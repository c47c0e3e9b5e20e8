"""Token ids in place of text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime.detokenize import TextStream
from runtime.errors import InvalidRequest
from runtime.prompt.written_ids import WrittenIds
from runtime.runtime import GenerateRequest, ImagePart, Message, TextPart, TokensPart

IDS = WrittenIds()


@pytest.mark.parametrize(
    ("text", "ids"), [("1,733,16289", (1, 733, 16289)), (" 1, 2 ", (1, 2)), (",5,", (5,)), ("7", (7,)), ("", ())]
)
def test_prompts(text: str, ids: tuple[int, ...]) -> None:
    """With or without spaces; commas that a picture cut off do not count."""
    assert IDS.read(GenerateRequest((TextPart(text),))).parts == (TokensPart(ids),)


def test_pictures_stay() -> None:
    """In their place between the ids."""
    picture = ImagePart(b"")
    request = GenerateRequest((TextPart("1,"), picture, TextPart(",3")))
    assert IDS.read(request).parts == (TokensPart((1,)), picture, TokensPart((3,)))


@pytest.mark.parametrize("text", ["What is this?", "1,,2", "1 2", "-1", "1.5", "²", "9" * 5000])
def test_other_texts_are_refused(text: str) -> None:
    """In a line that is short whatever the text is."""
    with pytest.raises(InvalidRequest, match="token ids with commas between them, got ") as error:
        IDS.read(GenerateRequest((TextPart(text),)))
    assert len(error.value.message) < 100


def test_conversations_are_refused() -> None:
    """A template would need the tokenizer."""
    with pytest.raises(InvalidRequest, match="no conversations"):
        IDS.read(GenerateRequest(messages=(Message("user", (TextPart("1"),)),)))


@given(st.lists(st.integers(3, 9), min_size=1), st.lists(st.integers(3, 9), min_size=1))
def test_prompt_and_stream_join_up(prompt: list[int], reply: list[int]) -> None:
    """What was read and streamed can be read again."""
    stream = TextStream(IDS, prompt)
    text = IDS.decode(prompt, False) + "".join(map(stream.push, reply))
    assert IDS.read(GenerateRequest((TextPart(text),))).parts == (TokensPart((*prompt, *reply)),)


def test_special_tokens() -> None:
    """All ids are told, the end of sequence too."""
    assert IDS.decode([5, 2], skip_special_tokens=True) == "5,2"
    assert not IDS.is_special(2)
