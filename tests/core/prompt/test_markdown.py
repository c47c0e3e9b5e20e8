"""Markdown pictures."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime.prompt.markdown import split_markdown
from runtime.runtime import ImageUrlPart, Part, TextPart


@pytest.mark.parametrize(
    ("inputs", "parts"),
    [
        ("", [TextPart("")]),
        ("no picture", [TextPart("no picture")]),
        ("![](a)", [ImageUrlPart("a")]),
        ("![]()", [ImageUrlPart("")]),
        ("x![](a)y", [TextPart("x"), ImageUrlPart("a"), TextPart("y")]),
        ("![](a)![](b)\n", [ImageUrlPart("a"), ImageUrlPart("b"), TextPart("\n")]),
        ("![alt](a) ![] (b) [](c)", [TextPart("![alt](a) ![] (b) [](c)")]),
        ("![](a![](b)c)", [ImageUrlPart("a![](b"), TextPart("c)")]),
        ("![](a)![](b", [ImageUrlPart("a"), TextPart("![](b")]),
        ("!![](a\nb)", [TextPart("!"), ImageUrlPart("a\nb")]),
    ],
)
def test_examples(inputs: str, parts: list[Part]) -> None:
    """The form is that of TGI's router: empty alt text, address up to the first parenthesis."""
    assert list(split_markdown(inputs)) == parts


@given(st.lists(st.sampled_from(["![](", ")", "![]", "(", "a", " ", "é"]), max_size=30).map("".join))
def test_nothing_is_lost(inputs: str) -> None:
    """Writing the parts out again gives the inputs; texts hold no complete picture and are not empty for nothing."""
    parts = split_markdown(inputs)
    written = [f"![]({part.url})" if isinstance(part, ImageUrlPart) else part.text for part in parts]  # type: ignore[union-attr]
    assert "".join(written) == inputs
    for part in parts:
        if isinstance(part, TextPart):
            assert part.text or parts == (TextPart(""),)
            opening = part.text.find("![](")
            assert opening < 0 or ")" not in part.text[opening:]


@pytest.mark.parametrize("unit", ["![](", "![](a)", "!", "![]", ")"])
def test_time_is_linear(unit: str) -> None:
    """Hostile text of a million repetitions takes no noticeable time; a quadratic search would take hours."""
    start = time.process_time()
    split_markdown(unit * 1_000_000)
    assert time.process_time() - start < 10
