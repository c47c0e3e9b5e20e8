"""Requests that nobody made on purpose, through every reader of requests."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from support import fuzz_requests
from support.fuzzing import kept, mutated
from support.messages import messages_of

JSON_MARKS = (b"{", b"}", b"[", b"]", b'"', b",", b":", b"null", b"1e999", b"-1", b"\\ud800", b'""', b"[[", b"true")
TEXTS = st.text(st.characters(codec=None), max_size=5) | st.sampled_from(["", "user", "<image>", "![](a)", "a" * 300])
NUMBERS = st.integers() | st.floats() | st.sampled_from([2**31, 2**32, 2**63, 2**64, 10**400, -(2**63), 1e-320])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """A kept body with another value in one or two places; where it is no JSON, another route."""
    path, _, body = draw(st.sampled_from([file.read_bytes() for file in kept("http")])).partition(b"\n")
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return draw(st.sampled_from(fuzz_requests.routes())).encode() + b"\n" + body
    for _ in range(draw(st.integers(1, 2))):
        value = changed(draw, value)
    return path + b"\n" + json.dumps(value).encode()


def changed(draw: st.DrawFn, value: Any) -> Any:
    """The value with another one somewhere in it."""
    if not isinstance(value, dict | list) or not value or draw(st.integers(0, 9)) == 0:
        return draw(VALUES)
    copy: Any = value.copy()
    place = draw(st.sampled_from(list(value) if isinstance(value, dict) else range(len(value))))
    copy[place] = changed(draw, value[place])
    return copy


@given(bodies() | mutated("http", *JSON_MARKS))
def test_http(data: bytes) -> None:
    """Never a failure."""
    fuzz_requests.http(data)


@given(mutated("grpc") | messages_of("v1"))
def test_grpc(data: bytes) -> None:
    """A request or a refusal."""
    fuzz_requests.grpc(data)


@given(mutated("grpc_v3") | messages_of("v3"))
def test_grpc_v3(data: bytes) -> None:
    """A request or a refusal."""
    fuzz_requests.grpc_v3(data)


@given(mutated("markdown", b"![](", b")", b"!", b"[", b"]", b"(") | st.text("![]()a").map(str.encode))
def test_markdown(data: bytes) -> None:
    """As a regular expression splits it."""
    fuzz_requests.markdown(data)


PIECES = st.lists(st.sampled_from(["<", "image", ">", "<image>", "<im", "age>", "a", "{{"]), max_size=4).map("".join)


@given(
    st.lists(st.tuples(PIECES | TEXTS, st.lists(st.none() | PIECES | TEXTS, max_size=4)), max_size=4).map(
        lambda turns: json.dumps(turns).encode()
    )
    | mutated("chat", *JSON_MARKS)
)
def test_chat(data: bytes) -> None:
    """No text becomes a picture, and none is lost."""
    fuzz_requests.chat(data)
