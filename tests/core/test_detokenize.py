"""Text comes out whole characters at a time, and all of it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime.detokenize import TextStream
from runtime.prompt.tokenizer import Tokenizer
from support.serving import TOKENIZER
from support.toy_tokenizers import byte_level, llama_like, word_piece

BROKEN = "\N{REPLACEMENT CHARACTER}"
KINDS = {
    "demo": TOKENIZER,
    "llama": llama_like(),
    "gemma": llama_like(strip=False),
    "byte level": byte_level(),
    "word piece": word_piece(),
}


def decode(ids: Sequence[int], tokenizer: Tokenizer = TOKENIZER) -> str:
    return tokenizer.decode(ids, skip_special_tokens=False)


def byte_ids(data: bytes) -> list[int]:
    """The demo tokenizer's byte tokens start at id 3."""
    return [3 + byte for byte in data]


RED = TOKENIZER.encode("a red", add_special_tokens=False)[-1]
A = TOKENIZER.encode("a", add_special_tokens=False)


class Forgetful:
    """A tokenizer that knows of no id what it adds."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.decode = tokenizer.decode
        self.is_special = tokenizer.is_special

    def addition(self, id: int) -> str | None:
        return None


@given(st.text(max_size=40))
def test_pieces_make_the_text(text: str) -> None:
    """For any text, the pieces joined are the text decoded at once."""
    ids = TOKENIZER.encode("begin" + text, add_special_tokens=False)
    context, new = ids[:1], ids[1:]
    stream = TextStream(TOKENIZER, context)
    pieces = [stream.push(token) for token in new]
    if BROKEN not in text:
        assert decode(context) + "".join(pieces) == decode(ids)
        assert not any(BROKEN in piece for piece in pieces)


@pytest.mark.parametrize("tokenizer", [pytest.param(kind, id=name) for name, kind in KINDS.items()])
@given(data=st.data())
def test_any_ids_make_their_text(tokenizer: Tokenizer, data: st.DataObject) -> None:
    """Pieces joined are what all ids say behind the prompt; what is peeked at is what the push then adds.

    Whatever the ids: special, spaces, parts of characters. Only where bytes are broken may a decoder
    call more of them broken than could be known when the first were told.
    """
    ids = st.lists(st.integers(0, tokenizer.vocabulary - 1), max_size=12)
    prompt, reply = data.draw(ids), data.draw(ids)
    stream, slow = TextStream(tokenizer, prompt), TextStream(Forgetful(tokenizer), prompt)
    told = ""
    for token in reply:
        foreseen = stream.peek(token)
        piece = stream.push(token)
        assert piece == slow.push(token)
        assert piece == foreseen or BROKEN in piece
        told += piece
    assert stream.pending == slow.pending
    before, whole = decode(prompt, tokenizer), decode([*prompt, *reply], tokenizer)
    if BROKEN not in before + whole:
        assert before + told + stream.pending == whole


@pytest.mark.parametrize("name", ["demo", "llama", "gemma", "byte level"])
def test_most_additions_are_known(name: str) -> None:
    """They are what makes it fast: all but parts of characters; the known kinds only."""
    tokenizer = KINDS[name]
    known = [tokenizer.addition(id) for id in range(tokenizer.vocabulary)]
    assert sum(text is None for text in known) <= 140
    assert {text for text in known if text is not None} >= {" red", "."}
    assert word_piece().addition(1) is None


def test_character_of_four_bytes_comes_whole() -> None:
    """Nothing is told before the last byte."""
    for context in ((), A):
        stream = TextStream(TOKENIZER, context)
        assert [stream.push(token) for token in byte_ids("🦊".encode())] == ["", "", "", "🦊"]


def test_leading_space_needs_the_context() -> None:
    """A word after the prompt keeps its space; at the start of a text it has none."""
    assert TextStream(TOKENIZER, A).push(RED) == " red"
    assert TextStream(TOKENIZER).push(RED) == "red"


def test_bytes_that_are_no_character_do_not_hold_the_text_back() -> None:
    """Broken bytes are shown as replacement characters, and a character after them is whole."""
    stream = TextStream(TOKENIZER)
    pieces = [stream.push(token) for token in byte_ids(b"\xff\xff\xff" + "€".encode())]
    assert "".join(pieces) == BROKEN * 3 + "€"


@given(st.binary(max_size=24))
def test_any_bytes_are_told_soon(data: bytes) -> None:
    """Whatever the bytes behind a text, at most three tokens are held back, and nothing raises."""
    stream = TextStream(TOKENIZER, A)
    pieces = [stream.push(token) for token in byte_ids(data)]
    silent = 0
    for piece in pieces:
        silent = 0 if piece else silent + 1
        assert silent <= 3


def test_ids_without_text_do_not_cost_a_space() -> None:
    """Ids that pad the model's vocabulary add nothing, and the word after them keeps its space, as in the whole."""
    silent = [5000, *[5001] * 20]
    stream = TextStream(TOKENIZER, A)
    assert [stream.push(token) for token in (*silent, RED)] == [""] * 21 + [" red"]
    stream = TextStream(TOKENIZER)
    assert [stream.push(token) for token in (5000, RED, RED)] == ["", "red", " red"]


@given(st.text("aé語🦊", max_size=5), st.text("aé語🦊", min_size=1, max_size=3))
def test_prompt_is_not_cut_in_the_middle_of_a_character(prompt: str, reply: str) -> None:
    """Only its last tokens are looked at; half a character among them would spoil those that follow."""
    stream = TextStream(TOKENIZER, [*A, *byte_ids(prompt.encode())])
    assert "".join(map(stream.push, byte_ids(reply.encode()))) == reply


def test_pictures_before_the_reply_change_nothing_of_it() -> None:
    """Their ids are text to the tokenizer, and no part of the reply."""
    image = next(id for id in range(TOKENIZER.vocabulary) if decode([id]) == "<image>")
    stream = TextStream(TOKENIZER, [1, *[image] * 100])
    assert [stream.push(token) for token in (RED, *byte_ids("é".encode()))] == [" red", "", "é"]
