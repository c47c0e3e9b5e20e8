"""Calls read while they are written, however they are divided."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime.http.openai.call import CallReader

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='a"\\{}[]é\n', max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet='k"\\}', max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)
arguments = st.dictionaries(st.text(alphabet='k"\\}', max_size=3), values, max_size=3)
cuts = st.lists(st.integers(0, 200), max_size=6)


def pieces(text: str, places: list[int]) -> list[str]:
    """The text, cut at these places."""
    ends = [0, *sorted(min(place, len(text)) for place in places), len(text)]
    return [text[start:stop] for start, stop in itertools.pairwise(ends)]


@given(arguments, cuts, st.sampled_from(["", " "]))
def test_arguments_are_the_text_of_their_object(given_: dict[str, object], places: list[int], space: str) -> None:
    """Braces in strings count for nothing; the brace that closes the call is no part of them."""
    wanted = json.dumps(given_, ensure_ascii=False)
    text = f'{{"name":{space}"f",{space}"arguments":{space}{wanted}}}'
    reader = CallReader()
    assert "".join(map(reader.push, pieces(text, places))) + reader.finish() == wanted
    assert (reader.name, reader.calls, reader.complete) == ("f", True, True)


@given(st.text(), cuts)
def test_plain_text_is_decoded(content: str, places: list[int]) -> None:
    """Escapes are undone, also those that a cut divides."""
    text = json.dumps({"name": "no_tool", "arguments": {"content": content}}, ensure_ascii=False)
    reader = CallReader()
    assert "".join(map(reader.push, pieces(text, places))) + reader.finish() == content
    assert (reader.calls, reader.complete) == (False, True)


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        ('{"name": "f', None, ""),
        ('{"name": "f", "arguments": {"a": {"b": 1', "f", '{"a": {"b": 1'),
        ('{"name": "f", "arguments": {"a": {}}', "f", '{"a": {}}'),
        ('{"name": "no_tool", "arguments": {"content": "hel\\u00', "no_tool", "hel"),
    ],
)
def test_reply_that_was_cut_short(text: str, name: str | None, said: str) -> None:
    """What there is, is told; a call without its closing brace has all its arguments and is complete."""
    reader = CallReader()
    assert (reader.push(text), reader.name) == (said, name)


def test_reply_that_is_no_call() -> None:
    """Comes as plain text at the end."""
    reader = CallReader()
    assert reader.push("hello") + reader.push(" you") == ""
    assert (reader.finish(), reader.calls) == ("hello you", False)
