"""Pictures by value and by reference."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime.errors import ImageRefused, ImageUrlNotEnabled
from runtime.intake.limits import IntakeLimits
from runtime.intake.source import picture_bytes
from runtime.runtime import ImagePart, ImageUrlPart

LIMITS = IntakeLimits(max_bytes=100)


def fetch(url: str) -> bytes:
    return picture_bytes(ImageUrlPart(url), 3, LIMITS)


def test_bytes_are_taken_as_they_are() -> None:
    """A picture by value needs no decoding of its transport."""
    assert picture_bytes(ImagePart(b"\x00anything"), 0, LIMITS) == b"\x00anything"


@given(st.binary(max_size=100), st.sampled_from(["data:image/png;base64,", "DATA:;base64,", "data:a/b;c=d;BASE64,"]))
def test_data_uris_round_trip(data: bytes, prefix: str) -> None:
    """Any bytes within the limit come back, with or without a media type, in any case of the scheme."""
    assert fetch(prefix + base64.b64encode(data).decode()) == data


@pytest.mark.parametrize(
    "url",
    [
        "data:image/png,abc",
        "data:image/png;base64",
        "data:image/png;base64,QUJ",
        "data:image/png;base64,QU JD",
        "data:image/png;base64,QUJD\n",
        "data:image/png;base64,QU-_",
        "data:image/png;base64,QÜJD",
        "data:",
        "",
        "picture.png",
        "file:///etc/passwd",
        "://",
    ],
)
def test_anything_else_is_refused(url: str) -> None:
    """The text names the picture and the remedy, and is not the fetching error."""
    with pytest.raises(ImageRefused, match=r"^picture 3: .*data:") as caught:
        fetch(url)
    assert caught.type is ImageRefused
    assert "passwd" not in caught.value.message


def test_a_data_uri_over_the_limit_is_refused_before_it_is_decoded() -> None:
    """The length is checked first, so the characters, which are no base64, are not looked at."""
    with pytest.raises(ImageRefused, match="more than 100 bytes"):
        fetch("data:;base64," + "?" * 137)


@pytest.mark.parametrize("url", ["http://user:secret@host/a.png", "HTTPS://host/secret"])
def test_addresses_are_not_fetched_and_not_echoed(url: str) -> None:
    """Only the scheme is told, and what to do instead."""
    with pytest.raises(ImageUrlNotEnabled, match=r"picture 3: .*not fetch https? addresses; send .*data:") as caught:
        fetch(url)
    assert "secret" not in caught.value.message


@given(st.text(max_size=200))
def test_no_address_breaks_it(url: str) -> None:
    """Every address gives bytes or a typed error."""
    try:
        assert isinstance(fetch(url), bytes)
    except ImageRefused:
        return
