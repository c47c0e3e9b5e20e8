"""A prompt told token by token."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from runtime.prompt_tokens import prompt_tokens
from runtime.runtime import GenerateRequest, TextPart, TokensPart
from support.serving import TOKENIZER


@given(st.text("ab c[]é🦊.", max_size=30))
def test_offsets_cut_the_text(text: str) -> None:
    """What stands between a token's offsets is what it adds; together they are the whole text."""
    ids = TOKENIZER.encode(text, add_special_tokens=True)
    told = prompt_tokens(ids, TOKENIZER, GenerateRequest((TextPart(text),)))
    assert [token.id for token in told] == ids
    assert (told[0].special, told[0].start) == (True, None)
    cut = ""
    for token in told[1:]:
        assert token.start == len(cut)
        assert token.stop is not None
        piece = text[token.start : token.stop]
        assert piece == token.text or " " + piece == token.text
        cut += piece
    assert cut == text


def test_ids_have_no_place() -> None:
    """A prompt that is not one text has no offsets."""
    told = prompt_tokens([1, 500], TOKENIZER, GenerateRequest((TokensPart((1, 500)),)))
    assert [(token.start, token.stop) for token in told] == [(None, None)] * 2
