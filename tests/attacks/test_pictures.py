"""Pictures made to harm whoever decodes them: refused or decoded right, in bounded time and memory.

All go through one real decoder process, which must be the same at the end but for the cases said to kill it.
"""

from __future__ import annotations

import gzip
import io
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from runtime.errors import ImageRefused
from runtime.intake.cut import CutPicture
from runtime.intake.decoders import Decoders, DecodeTimes
from runtime.intake.limits import IntakeLimits
from runtime.prompt.tiles import cutting_of
from support.geometries import LLAVA_IMAGES

pytestmark = pytest.mark.anyio

LIMITS = IntakeLimits(max_bytes=4 * 2**20, max_pixels=2_000_000)
TOO_MANY = r"more than 2000000, the most this server takes"
DAMAGED = "damaged or incomplete"
UNKNOWN = "not a PNG, JPEG, WebP or GIF"


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    """One process."""
    made = Decoders(1, LIMITS, cutting_of(LLAVA_IMAGES), DecodeTimes(cpu=2, wall=60, patience=60))
    made.start()
    yield made
    made.close()


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def plain(width: int = 40, height: int = 30, mode: str = "RGB") -> Image.Image:
    return Image.linear_gradient("L").resize((width, height)).convert(mode)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(
    width: int, height: int, body: bytes = b"", *before: bytes, depth: int = 8, kind: int = 2, lace: int = 0
) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, lace))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(before) + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")


def riff(*chunks: bytes) -> bytes:
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def vp8x(width: int, height: int, flags: int = 0) -> bytes:
    sides = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    return b"VP8X" + struct.pack("<IB3x", 10, flags) + sides


def gif(width: int, height: int, left: int = 0, frame: tuple[int, int] | None = None) -> bytes:
    frame_width, frame_height = frame or (width, height)
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
    return head + b"," + struct.pack("<HHHHB", left, 0, frame_width, frame_height, 0) + b"\x02\x02\x44\x01\x00;"


def jpeg(width: int, height: int) -> bytes:
    """A real one whose frame header lies."""
    data = saved(plain(), "JPEG")
    place = data.index(b"\xff\xc0")
    return data[: place + 5] + struct.pack(">HH", height, width) + data[place + 9 :]


def tiff(width: int, height: int) -> bytes:
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 8), (273, 4, 1, 8), (279, 4, 1, 9)]
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def noise(kind: str, **options: Any) -> bytes:
    return saved(Image.effect_noise((60, 60), 90).convert("RGB"), kind, **options)


ZEROS = bytes(10 * 2**20)
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><image href="file:///etc/passwd"/></svg>'

REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "nothing": (lambda: b"", "has no bytes"),
    "too many bytes": (lambda: bytes(LIMITS.max_bytes + 1), r"bytes are more than 4194304"),
    "png of 65535 x 65535": (lambda: png(65535, 65535), TOO_MANY),
    "png of 2**31-1 squared": (lambda: png(2**31 - 1, 2**31 - 1), TOO_MANY),
    "png of 2**32-1 x 4": (lambda: png(2**32 - 1, 4), TOO_MANY),
    "png of no size": (lambda: png(0, 0), "side below 4"),
    "png of 1 pixel": (lambda: saved(plain(1, 1), "PNG"), "side below 4"),
    "png of 65535 x 1": (lambda: saved(plain(65535, 1), "PNG"), "side below 4"),
    "png of 65535 x 4": (lambda: saved(plain(65535, 4), "PNG"), "too thin"),
    "png of 4 x 65535": (lambda: saved(plain(4, 65535), "PNG"), "too thin"),
    "png whose data is none": (lambda: png(1000, 1000), DAMAGED),
    "png whose data ends early": (lambda: half(saved(plain(300, 300), "PNG")), DAMAGED),
    "png of one byte of a signature": (lambda: b"\x89", UNKNOWN),
    "png of a signature": (lambda: b"\x89PNG\r\n\x1a\n", UNKNOWN),
    "png with a damaged sum": (lambda: noise("PNG").replace(b"IDAT", b"IDAT\x00", 1), DAMAGED),
    "png with two headers": (
        lambda: png(40, 30, bytes(90000), chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0))),
        DAMAGED,
    ),
    "png with a text bomb": (lambda: png(40, 30, b"", chunk(b"zTXt", b"a\0\0" + zlib.compress(ZEROS))), DAMAGED),
    "png with many text bombs": (
        lambda: png(40, 30, b"", *[chunk(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(bytes(2**19)))] * 400),
        DAMAGED,
    ),
    "png with a colour profile bomb": (
        lambda: png(40, 30, b"", *[chunk(b"iCCP", b"a\0\0" + zlib.compress(ZEROS * 4))] * 20),
        DAMAGED,
    ),
    "png of an unknown depth": (lambda: png(40, 30, b"", depth=7), DAMAGED),
    "webp of 16384 x 16384": (lambda: riff(vp8x(16384, 16384)), TOO_MANY),
    "webp of 2**24 squared": (lambda: riff(vp8x(2**24, 2**24, 2)), TOO_MANY),
    "webp with nothing in it": (lambda: riff(vp8x(100, 100)), DAMAGED),
    "webp of a lossless head": (lambda: riff(b"VP8L" + struct.pack("<IBI", 5, 0x2F, 0x0FFFFFFF)), TOO_MANY),
    "webp whose frame is larger": (
        lambda: riff(vp8x(40, 30), saved(plain(2500, 2500), "WEBP", lossless=True)[12:]),
        DAMAGED,
    ),
    "webp whose data ends early": (lambda: half(noise("WEBP", lossless=True)), DAMAGED),
    "gif of 65535 x 65535": (lambda: gif(65535, 65535), TOO_MANY),
    "gif whose frame is larger": (lambda: gif(40, 30, 0, (65535, 65535)), TOO_MANY),
    "gif whose frame is far right": (lambda: gif(40, 30, 65535, (40, 30)), "more than|too thin|" + DAMAGED),
    "gif without a frame": (lambda: gif(40, 30)[:19], UNKNOWN),
    "gif of endless blocks": (lambda: gif(40, 30)[:19] + b"!\xfe" + b"\x01a" * 2_000_000, UNKNOWN),
    "gif whose data ends early": (lambda: half(noise("GIF")), DAMAGED),
    "jpeg of 65535 x 65535": (lambda: jpeg(65535, 65535), TOO_MANY),
    "jpeg without a size": (lambda: b"\xff\xd8\xff" + b"\xff" * 1_000_000, UNKNOWN),
    "jpeg of endless segments": (lambda: b"\xff\xd8" + b"\xff\xe1\x00\x02" * 1_000_000, UNKNOWN),
    "jpeg whose data ends early": (lambda: half(noise("JPEG")), DAMAGED),
    "jpeg of height 0": (lambda: jpeg(40, 0), "side below 4"),
    "tiff": (lambda: saved(plain(), "TIFF"), UNKNOWN),
    "tiff bomb": (lambda: tiff(2**31, 2**31), UNKNOWN),
    "bmp": (lambda: saved(plain(), "BMP"), UNKNOWN),
    "ico": (lambda: saved(plain(), "ICO"), UNKNOWN),
    "ppm": (lambda: b"P6 99999 99999 255\n", UNKNOWN),
    "postscript": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n", UNKNOWN),
    "fli": (lambda: struct.pack("<IHHHHHH", 128, 0xAF11, 1, 65535, 65535, 8, 3) + bytes(112), UNKNOWN),
    "pdf": (lambda: b"%PDF-1.7\n", UNKNOWN),
    "svg": (lambda: SVG, UNKNOWN),
    "html": (lambda: b"<!DOCTYPE html><img src=x>", UNKNOWN),
    "zip": (lambda: b"PK\x03\x04" + bytes(100), UNKNOWN),
    "gzip bomb": (lambda: gzip.compress(ZEROS), UNKNOWN),
    "gif that is a script": (lambda: b"GIF89a=1;alert(1);//" + b"x" * 100, DAMAGED + "|" + UNKNOWN + "|" + TOO_MANY),
    "png behind a byte": (lambda: b" " + saved(plain(), "PNG"), UNKNOWN),
    "jpeg 2000": (lambda: b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(100), UNKNOWN),
    "avif": (lambda: b"\0\0\0\x1cftypavif" + bytes(100), UNKNOWN),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_refused(case: str, decoders: Decoders) -> None:
    """In one line that names the picture, and the process lives on."""
    made, told = REFUSED[case]
    with pytest.raises(ImageRefused, match=told) as caught:
        await decode(made(), decoders)
    assert re.fullmatch(r"picture 5: [ -~]{10,250}", caught.value.message)


def with_exif(size: int, orientation: int | None = None) -> bytes:
    exif = Image.Exif()
    exif[0x010E] = "x" * size
    if orientation is not None:
        exif[0x0112] = orientation
    return saved(plain(), "JPEG", exif=exif)


def text_heavy() -> bytes:
    info = PngInfo()
    for number in range(50):
        info.add_text(f"key{number}", "x" * 10_000, zip=True)
    return saved(plain(), "PNG", pnginfo=info)


FRAMES = [plain(mode=mode).convert("RGB") for mode in ("RGB", "1")] * 40

DECODED: dict[str, tuple[Callable[[], bytes], tuple[int, int]]] = {
    "png with more data than pixels": (lambda: png(40, 30, bytes(91 * 30) + ZEROS), (30, 40)),
    "png with a zip behind": (lambda: saved(plain(), "PNG") + b"PK\x03\x04" + bytes(1000), (30, 40)),
    "png with much text": (text_heavy, (30, 40)),
    "png of 16 bits": (lambda: png(40, 30, bytes(241 * 30), depth=16), (30, 40)),
    "png of 16 bits of grey": (lambda: saved(Image.new("I;16", (40, 30), 40000), "PNG"), (30, 40)),
    "png of one bit": (lambda: saved(plain(mode="1"), "PNG"), (30, 40)),
    "png with a palette and transparency": (lambda: saved(plain(mode="P"), "PNG", transparency=0), (30, 40)),
    "png with grey and alpha": (lambda: saved(plain(mode="LA"), "PNG"), (30, 40)),
    "png of many frames": (lambda: saved(FRAMES[0], "PNG", save_all=True, append_images=FRAMES[1:]), (30, 40)),
    "jpeg with a page behind": (lambda: saved(plain(), "JPEG") + b"<script>" * 1000, (30, 40)),
    "jpeg of four inks": (lambda: saved(plain().convert("CMYK"), "JPEG"), (30, 40)),
    "jpeg in grey": (lambda: saved(plain(mode="L"), "JPEG"), (30, 40)),
    "jpeg in scans": (lambda: saved(plain(), "JPEG", progressive=True), (30, 40)),
    "jpeg with a huge exif": (lambda: with_exif(60_000), (30, 40)),
    "jpeg on its side": (lambda: with_exif(10, 6), (40, 30)),
    "jpeg with an orientation that is none": (lambda: with_exif(10, 60_000), (30, 40)),
    "jpeg with a broken exif": (lambda: saved(plain(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"), (30, 40)),
    "webp of many frames": (lambda: saved(FRAMES[0], "WEBP", save_all=True, append_images=FRAMES[1:]), (30, 40)),
    "gif of many frames": (lambda: saved(FRAMES[0], "GIF", save_all=True, append_images=FRAMES[1:]), (30, 40)),
    "gif of the most pixels": (lambda: saved(Image.new("L", (2000, 1000)), "GIF"), (1000, 2000)),
    "webp of the most pixels": (lambda: saved(Image.new("RGBA", (1000, 2000)), "WEBP"), (2000, 1000)),
}


@pytest.mark.parametrize("case", DECODED)
async def test_decoded(case: str, decoders: Decoders) -> None:
    """Odd, and still pictures: the first frame, upright, of the size that the header says."""
    made, size = DECODED[case]
    assert (await decode(made(), decoders)).size == size


async def decode(data: bytes, decoders: Decoders) -> CutPicture:
    """In the process, which must survive it and never have held much more than the largest picture permitted."""
    before = decoders.pids
    try:
        return await decoders.cut(lambda: data, 5)
    finally:
        assert decoders.pids == before
        (pid,) = before
        assert peak(pid) < 300 * 2**20


def peak(pid: int) -> int:
    """The most memory that a process ever held, bytes."""
    status = Path(f"/proc/{pid}/status")
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())[0]) * 1024 if status.exists() else 0


async def test_endless_scans(decoders: Decoders) -> None:
    """A small progressive JPEG whose last scan comes 100,000 times: the kernel ends it after 2 s of computing."""
    data = saved(Image.new("L", (1400, 1400)), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    before = decoders.pids
    scan = data[last:-2]
    repeats = min(100_000, (LIMITS.max_bytes - len(data)) // len(scan))
    with pytest.raises(ImageRefused, match="more time or memory than this server gives"):
        await decoders.cut(lambda: data[:last] + scan * repeats + data[-2:], 5)
    assert decoders.pids.isdisjoint(before)
    assert (await decoders.cut(lambda: saved(plain(), "PNG"), 5)).size == (30, 40)
