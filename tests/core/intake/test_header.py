"""Kind and size of a picture from its first bytes."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from runtime.intake.header import Header, read_header


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("kind", "mode", "options"),
    [
        ("PNG", "RGB", {}),
        ("PNG", "P", {}),
        ("JPEG", "RGB", {}),
        ("JPEG", "L", {"progressive": True}),
        ("JPEG", "RGB", {"exif": b"Exif\0\0" + b"x" * 5000, "comment": b"\xff\xc0" * 50}),
        ("GIF", "P", {}),
        ("GIF", "L", {"comment": b"a comment of some length " * 30}),
        ("WEBP", "RGB", {}),
        ("WEBP", "RGB", {"lossless": True}),
        ("WEBP", "RGBA", {"lossless": True, "exif": b"x"}),
    ],
)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 300), (513, 258)])
def test_what_pillow_writes(kind: str, mode: str, options: dict[str, Any], height: int, width: int) -> None:
    """The header equals what was saved, in every variant of a kind."""
    data = encode(Image.new(mode, (width, height)), kind, **options)
    assert read_header(data) == Header(kind, height, width)  # type: ignore[arg-type]


def test_an_animated_webp_has_the_size_of_its_canvas() -> None:
    """The extended form keeps 24-bit sizes."""
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("red", "blue")]
    data = encode(frames[0], "WEBP", save_all=True, append_images=frames[1:])
    assert read_header(data) == Header("WEBP", 10, 20)


def test_a_gif_frame_beyond_the_screen_counts() -> None:
    """A tiny screen must not hide a huge frame."""
    extension = b"\x21\xf9\x04\x08\0\0\0\0"
    gif = b"GIF89a" + bytes([1, 0, 1, 0, 0, 0, 0]) + extension + b"\x2c\1\0\2\0\xff\xff\xfe\xff\0"
    assert read_header(gif) == Header("GIF", 2 + 0xFFFE, 1 + 0xFFFF)


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xd8" + b"\xff" * 1_000_000,
        b"\xff\xd8\xff" + b"\xe0\0\2\xff" * 1_000_000,
        b"\xff\xd8\xff\xe0\0\0" * 1_000_000,
        b"GIF89a" + bytes(7) + b"\x21\xfe" + b"\1a" * 1_000_000,
        b"GIF89a" + bytes(1_000_000),
    ],
)
def test_padding_is_given_up_on(data: bytes) -> None:
    """A file that hides its size behind endless small segments has none."""
    assert read_header(data) is None


SIGNATURES = [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"RIFF....WEBPVP8X"]


@given(st.sampled_from(SIGNATURES), st.binary(max_size=60))
@settings(max_examples=300)
def test_no_bytes_break_it(start: bytes, rest: bytes) -> None:
    """Whatever follows a signature, there is a header or none."""
    assert isinstance(read_header(start + rest), Header | None)
