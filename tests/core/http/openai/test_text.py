"""Text up to the first stop text, however the tokens divide it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from runtime.http.openai.text import ReplyText, before_stop
from support.scripted import token

letters = st.text(alphabet="ab", max_size=4)
stops = st.lists(st.text(alphabet="ab", min_size=1, max_size=4), max_size=3)


def test_held_back_until_certain() -> None:
    """`ab` may begin `abc`; `abd` may not, and its end begins nothing."""
    text = ReplyText(["abc"])
    assert [text.push([token(each)]).text for each in ("xa", "b", "d", "ab", "c", "more")] == [
        *("x", "", "abd", "", "", ""),
    ]
    assert text.stopped
    assert text.finish().text == ""


def test_tokens_come_with_their_first_character() -> None:
    """Tokens of the stop text and after it are never told, nor are special ones."""
    text = ReplyText(["stop"])
    a, st_, op, special = token("a", 1), token("bst", 2), token("op", 3), token("</s>", 4, special=True)
    assert text.push([special, a]).tokens == (a,)
    piece = text.push([st_])
    assert (piece.text, piece.tokens) == ("b", (st_,))
    piece = text.push([op])
    assert (piece.text, piece.tokens, text.stopped) == ("", (), True)


def test_token_inside_a_character() -> None:
    """It adds no text and is told where it stands."""
    empty, whole = token("", 1), token("é", 2)
    assert ReplyText([]).push([empty]).tokens == (empty,)
    assert ReplyText(["é"]).push([empty, whole]).tokens == (empty,)


@given(st.lists(letters, max_size=8), stops)
def test_any_division(pieces: list[str], stops: list[str]) -> None:
    """The pieces are the text before the stop text that is complete first; nothing is lost, nothing comes twice."""
    text = ReplyText(stops)
    told = ""
    ended_after = len(pieces)
    for index, piece in enumerate(pieces):
        told += text.push([token(piece)]).text
        if text.stopped:
            ended_after = index + 1
            break
    told += text.finish().text
    said = "".join(pieces[:ended_after])
    assert told == before_stop(said, stops)
    assert text.stopped == any(stop in said for stop in stops)


@given(st.lists(letters, max_size=8), stops)
def test_no_more_is_held_back_than_may_begin_a_stop_text(pieces: list[str], stops: list[str]) -> None:
    """Fewer characters than the longest stop text has."""
    text = ReplyText(stops)
    told = "".join(text.push([token(piece)]).text for piece in pieces)
    if not text.stopped:
        held = len("".join(pieces)) - len(told)
        assert held == 0 or held < max(map(len, stops))


def test_before_stop() -> None:
    """The first in the text, not in the list."""
    assert before_stop("one two three", ["three", "two"]) == "one "
    assert before_stop("one", ["two"]) == "one"
