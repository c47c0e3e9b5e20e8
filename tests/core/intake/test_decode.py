"""Encoded pictures to RGB."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from runtime.errors import ImageRefused
from runtime.intake.decode import Picture, decode_picture
from runtime.intake.limits import IntakeLimits

LIMITS = IntakeLimits()
WHITE = (255, 255, 255)


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def decode(data: bytes, limits: IntakeLimits = LIMITS) -> Picture:
    return decode_picture(data, 0, limits)


def colour(image: Image.Image, kind: str = "PNG", **options: Any) -> Any:
    decoded = decode(encode(image, kind, **options)).image
    assert decoded.mode == "RGB"
    assert decoded.size == image.size
    return decoded.getpixel((5, 5))


def png(width: int, height: int, depth: int, kind: int, rows: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG written by hand, for what Pillow does not write."""
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    body = b""
    for name, data in ((b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        body += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    return b"\x89PNG\r\n\x1a\n" + body


def test_every_mode_becomes_rgb() -> None:
    """Grey, bilevel and palette pictures keep their colours."""
    size = (10, 12)
    assert colour(Image.new("RGB", size, (1, 2, 3))) == (1, 2, 3)
    assert colour(Image.new("L", size, 77)) == (77, 77, 77)
    assert colour(Image.new("1", size, 1)) == WHITE
    assert colour(Image.new("RGB", size, (10, 200, 30)).quantize(4)) == (10, 200, 30)
    assert colour(Image.new("RGB", size, (10, 200, 30)).quantize(4), "GIF") == (10, 200, 30)
    assert colour(Image.new("RGB", size, (9, 8, 7)), "WEBP", lossless=True) == (9, 8, 7)


def test_cmyk_jpeg_is_not_inverted() -> None:
    """Full cyan ink is cyan."""
    red, green, blue = colour(Image.new("CMYK", (16, 16), (255, 0, 0, 0)), "JPEG", quality=95)
    assert red < 10
    assert min(green, blue) > 245


def test_transparency_is_laid_on_white() -> None:
    """Alpha channels, palette entries and colour keys all show what a white page would."""
    size = (10, 10)
    assert colour(Image.new("RGBA", size, (200, 0, 0, 0))) == WHITE
    assert colour(Image.new("RGBA", size, (255, 0, 0, 255))) == (255, 0, 0)
    assert colour(Image.new("RGBA", size, (0, 0, 0, 51))) == (204, 204, 204)  # 255 * 4 / 5
    assert colour(Image.new("LA", size, (0, 51))) == (204, 204, 204)
    assert colour(Image.new("P", size, 0), transparency=0) == WHITE
    assert colour(Image.new("P", size, 0), "GIF", transparency=0) == WHITE
    assert colour(Image.new("RGB", size, (1, 2, 3)), transparency=(1, 2, 3)) == WHITE
    assert colour(Image.new("L", size, 9), transparency=9) == WHITE
    assert colour(Image.new("RGBA", size, (200, 0, 0, 0)), "WEBP", lossless=True) == WHITE


@pytest.mark.parametrize(("value", "grey"), [(0, 0), (256, 1), (0x8080, 128), (0xFFFF, 255)])
def test_sixteen_bit_grey_is_scaled(value: int, grey: int) -> None:
    """65535 is white and the middle is grey; nothing is clipped, with or without a colour key."""
    rows = (b"\0" + struct.pack(">H", value) * 8) * 8
    for chunks in ([], [(b"tRNS", struct.pack(">H", 5))]):
        assert decode(png(8, 8, 16, 0, rows, *chunks)).image.getpixel((5, 5)) == (grey, grey, grey)


def test_sixteen_bit_colour() -> None:
    """The high byte of each channel remains."""
    rows = (b"\0" + struct.pack(">HHH", 0xFFFF, 0x8000, 0) * 8) * 8
    assert decode(png(8, 8, 16, 2, rows)).image.getpixel((5, 5)) == (255, 128, 0)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_an_animation_gives_its_first_frame(kind: str) -> None:
    """Also when the frames differ in all pixels."""
    frames = [Image.new("RGB", (12, 8), name) for name in ("#ff0000", "#0000ff")]
    options = {"lossless": True} if kind == "WEBP" else {}
    picture = decode(encode(frames[0], kind, save_all=True, append_images=frames[1:], duration=100, **options))
    assert picture.size == (8, 12)
    assert picture.image.getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    """The bright corner of the scene is where a viewer would show it.

    The table is that of the EXIF standard: which sides of the scene the stored first row and first column are.
    """
    row, column = {
        1: ("top", "left"),
        2: ("top", "right"),
        3: ("bottom", "right"),
        4: ("bottom", "left"),
        5: ("left", "top"),
        6: ("right", "top"),
        7: ("right", "bottom"),
        8: ("left", "bottom"),
    }[orientation]
    stored = Image.new("RGB", (64, 32))
    stored.paste("white", (0, 0, 16, 16))
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = decode(encode(stored, kind, exif=exif))
    height, width = picture.size
    assert (height, width) == ((64, 32) if orientation >= 5 else (32, 64))
    y = 4 if "top" in (row, column) else height - 5
    x = 4 if "left" in (row, column) else width - 5
    assert min(picture.image.getpixel((x, y))) > 200  # type: ignore[type-var,arg-type]
    assert max(picture.image.getpixel((width - 1 - x, height - 1 - y))) < 50  # type: ignore[type-var,arg-type]


@pytest.mark.filterwarnings("ignore")  # as in production: the module silences Pillow, pytest undoes it
@pytest.mark.parametrize("exif", [b"", b"Exif\0\0", b"Exif\0\0MM\0*\0\0\0\x08\0\x09\x01", b"Exif\0\0" + b"\xff" * 99])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_broken_exif_is_ignored(exif: bytes, kind: str) -> None:
    """Meta data does not decide whether a picture can be shown."""
    picture = decode(encode(Image.new("RGB", (40, 20), "red"), kind, exif=exif))
    assert picture.size == (20, 40)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_unknown_orientations_are_upright(orientation: int) -> None:
    """There are eight orientations; anything else is none."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert decode(encode(Image.new("RGB", (40, 20)), "PNG", exif=exif)).size == (20, 40)


def test_the_digest_tells_pictures_apart() -> None:
    """Same pixels in two encodings are one picture; twins in another shape or colour are not."""
    wide, tall = Image.new("RGB", (150, 30)), Image.new("RGB", (30, 150))
    digest = decode(encode(wide)).digest
    assert len(digest) == 32
    assert decode(encode(wide, "WEBP", lossless=True)).digest == digest
    assert decode(encode(tall)).digest != digest
    assert decode(encode(Image.new("RGB", (150, 30), (0, 0, 1)))).digest != digest


def refusal(data: bytes, limits: IntakeLimits = LIMITS) -> str:
    with pytest.raises(ImageRefused) as caught:
        decode_picture(data, 7, limits)
    message: str = caught.value.message
    assert message.startswith("picture 7: ")
    assert caught.value.__cause__ is None
    return message


def test_limits_are_checked_on_bytes_and_header() -> None:
    """Each limit is hit from above and met from below; the text names value and limit."""
    data = encode(Image.new("RGB", (30, 20)))
    assert decode(data, IntakeLimits(max_bytes=len(data), max_pixels=600, min_side=20)).size == (20, 30)
    assert f"{len(data)} bytes are more than {len(data) - 1}" in refusal(data, IntakeLimits(max_bytes=len(data) - 1))
    assert "20 x 30 pixels (height x width) are more than 599" in refusal(data, IntakeLimits(max_pixels=599))
    assert "a side below 21 pixels" in refusal(data, IntakeLimits(min_side=21))
    for size in ((3, 100), (100, 3), (1, 1)):
        assert "below 4 pixels" in refusal(encode(Image.new("RGB", size)))


@pytest.mark.parametrize("side", [9_000, 12_000, 2**31 - 1])
def test_bombs_are_refused_by_their_header(side: int) -> None:
    """Sizes around Pillow's own warning and error, and beyond, never reach it; there are no pixels to decode here."""
    assert "more than 50000000" in refusal(png(side, side, 8, 2, b""))


def test_a_gif_whose_frame_would_be_filled_on_opening_is_refused() -> None:
    """Disposal to background allocates the frame when Pillow opens the file."""
    dispose = b"\x21\xf9\x04\x08\0\0\0\0"
    gif = b"GIF89a" + bytes([9, 0, 9, 0, 0, 0, 0]) + dispose + b"\x2c\0\0\0\0\xff\xff\xff\xff\0"
    assert "65535 x 65535" in refusal(gif)


def test_two_sizes_in_one_file_are_refused() -> None:
    """A second header cannot undo the check of the first."""
    second = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    assert "damaged" in refusal(png(8, 8, 8, 2, bytes(8 * 25), (b"IHDR", second)))


@pytest.mark.parametrize("data", [b"", b"hello", b"BM" + bytes(60), b"II*\0" + bytes(60), b"<svg></svg>", b"%PDF-1.4"])
def test_other_formats_are_refused(data: bytes) -> None:
    """The text names the formats that are taken."""
    assert "PNG, JPEG, WebP or GIF" in refusal(data)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP"])
def test_truncated_pictures_are_refused(kind: str) -> None:
    """Wherever the file ends early, the picture is refused as a whole."""
    noise = Image.effect_noise((64, 48), 90).convert("RGB")
    data = encode(noise, kind)
    for end in (1, 10, 40, len(data) // 2, len(data) * 3 // 4):
        refusal(data[:end])


@pytest.fixture(scope="module")
def samples() -> dict[str, bytes]:
    """A picture of each kind, with meta data."""
    exif = Image.Exif()
    exif[0x0112] = 6
    scene = Image.effect_noise((24, 18), 90).convert("RGB")
    frames = {"save_all": True, "append_images": [Image.new("RGB", (24, 18))]}
    return {
        "PNG": encode(scene, "PNG", exif=exif, **frames),
        "JPEG": encode(scene, "JPEG", exif=exif),
        "GIF": encode(scene, "GIF", comment=b"x", disposal=2, **frames),
        "WEBP": encode(scene, "WEBP", exif=exif, **frames),
    }


@given(
    kind=st.sampled_from(["PNG", "JPEG", "GIF", "WEBP"]),
    edits=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=6),
)
@settings(max_examples=400, deadline=None)
def test_damage_is_survived(samples: dict[str, bytes], kind: str, edits: list[tuple[int, int]]) -> None:
    """A picture with changed bytes is decoded or refused, and within the limits."""
    limits = IntakeLimits(max_pixels=100_000)
    data = bytearray(samples[kind])
    for position, value in edits:
        data[position % len(data)] = value
    try:
        picture = decode(bytes(data), limits)
    except ImageRefused:
        return
    assert picture.image.mode == "RGB"
    assert picture.image.width * picture.image.height <= 100_000


def test_many_threads_agree() -> None:
    """Decoding keeps no state between pictures."""
    makers: list[Callable[[], bytes]] = [
        lambda: encode(Image.new("RGB", (40, 20), "red"), "JPEG"),
        lambda: encode(Image.new("RGBA", (40, 20), (0, 0, 0, 0))),
        lambda: b"\x89PNG broken",
    ]
    data = [make() for make in makers] * 20

    def attempt(one: bytes) -> bytes | None:
        try:
            return decode(one).digest
        except ImageRefused:
            return None

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(attempt, data)) == [attempt(one) for one in data]
