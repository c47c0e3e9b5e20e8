"""Text comes out whole characters at a time, and all of it."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from runtime.detokenize import TextStream
from support.serving import TOKENIZER


def decode(ids: Sequence[int]) -> str:
    return TOKENIZER.decode(list(ids), skip_special_tokens=False)


def byte_ids(data: bytes) -> list[int]:
    """The demo tokenizer's byte tokens start at id 3."""
    return [3 + byte for byte in data]


@given(st.text(max_size=40))
def test_pieces_make_the_text(text: str) -> None:
    """For any text, the pieces joined are the text decoded at once."""
    ids = TOKENIZER.encode("begin" + text, add_special_tokens=False)
    context, new = ids[:1], ids[1:]
    stream = TextStream(decode, context)
    pieces = [stream.push(token) for token in new]
    if "\N{REPLACEMENT CHARACTER}" not in text:
        assert decode(context) + "".join(pieces) == decode(ids)
        assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)


def test_character_of_four_bytes_comes_whole() -> None:
    """Nothing is told before the last byte."""
    stream = TextStream(decode)
    assert [stream.push(token) for token in byte_ids("🦊".encode())] == ["", "", "", "🦊"]


def test_leading_space_needs_the_context() -> None:
    """A word after the prompt keeps its space; at the start of a text it has none."""
    word = TOKENIZER.encode("a red", add_special_tokens=False)[-1]
    prompt = TOKENIZER.encode("a", add_special_tokens=False)
    assert TextStream(decode, prompt).push(word) == " red"
    assert TextStream(decode).push(word) == "red"


def test_bytes_that_are_no_character_do_not_hold_the_text_back() -> None:
    """Broken bytes are shown as replacement characters, and a character after them is whole."""
    stream = TextStream(decode)
    pieces = [stream.push(token) for token in byte_ids(b"\xff\xff\xff" + "€".encode())]
    assert "".join(pieces) == "\N{REPLACEMENT CHARACTER}" * 3 + "€"


@given(st.binary(max_size=24))
def test_any_bytes_are_told_soon(data: bytes) -> None:
    """Whatever the bytes, at most three tokens are held back, and nothing raises."""
    stream = TextStream(decode)
    pieces = [stream.push(token) for token in byte_ids(data)]
    silent = 0
    for piece in pieces:
        silent = 0 if piece else silent + 1
        assert silent <= 3
