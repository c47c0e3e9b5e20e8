"""Pictures made to harm whoever decodes them, with what is told of each."""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

from PIL import Image
from runtime.intake.limits import IntakeLimits

LIMITS = IntakeLimits(max_bytes=4 * 2**20, max_pixels=2_000_000)
TOO_MANY = r"more than 2000000, the most this server takes"
DAMAGED = "damaged or incomplete"
UNKNOWN = "not a PNG, JPEG, WebP or GIF"


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
    return written_over(saved(plain(), "JPEG"), b"\xff\xc0", 5, struct.pack(">HH", height, width))


def written_over(data: bytes, mark: bytes, offset: int, piece: bytes) -> bytes:
    """The data with other bytes so far behind a mark."""
    place = data.index(mark) + offset
    return data[:place] + piece + data[place + len(piece) :]


def two_frame_headers() -> bytes:
    """A JPEG whose second one says 60,000 pixels a side."""
    data = saved(plain(), "JPEG")
    place = data.index(b"\xff\xc0")
    behind = place + 2 + struct.unpack_from(">H", data, place + 2)[0]
    return data[:behind] + jpeg(60000, 60000)[place:behind] + data[behind:]


def apng(*frame: int) -> bytes:
    """An animation that says 2**31-1 frames, and the width, height and place of the first."""
    control = struct.pack(">IIIIIHHBB", 0, *frame, 1, 1, 0, 0)
    return png(40, 30, bytes(121 * 30), chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0)), chunk(b"fcTL", control))


def tiff(width: int, height: int) -> bytes:
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 8), (273, 4, 1, 8), (279, 4, 1, 9)]
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)


def moving(kind: str) -> bytes:
    """An animation of two frames."""
    return saved(plain(), kind, save_all=True, append_images=[plain(mode="1").convert("RGB")])


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def noise(kind: str, **options: Any) -> bytes:
    return saved(Image.effect_noise((60, 60), 90).convert("RGB"), kind, **options)


def endless_scans(size: int) -> bytes:
    """A progressive JPEG of this size whose last scan comes again and again: it decodes for minutes."""
    data = saved(Image.new("L", (1400, 1400)), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    scan = data[last:-2]
    return data[:last] + scan * ((size - len(data)) // len(scan)) + data[-2:]


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
    "png without its palette": (lambda: png(40, 30, bytes(41 * 30), kind=3), DAMAGED),
    "png of 65535 x 65535 in seven passes": (lambda: png(65535, 65535, lace=1), TOO_MANY),
    "png whose first frame is larger": (lambda: apng(60000, 60000, 0, 0), DAMAGED),
    "png whose first frame is far away": (lambda: apng(40, 30, 2**31 - 1, 2**31 - 1), DAMAGED),
    "webp of 1 pixel": (lambda: saved(plain(1, 1), "WEBP"), "side below 4"),
    "webp whose first frame is far away": (lambda: written_over(moving("WEBP"), b"ANMF", 8, b"\xff" * 6), DAMAGED),
    "webp whose first frame is larger": (lambda: written_over(moving("WEBP"), b"ANMF", 14, b"\xff" * 6), DAMAGED),
    "webp of 16384 x 16384": (lambda: riff(vp8x(16384, 16384)), TOO_MANY),
    "webp of 2**24 squared": (lambda: riff(vp8x(2**24, 2**24, 2)), TOO_MANY),
    "webp with nothing in it": (lambda: riff(vp8x(100, 100)), DAMAGED),
    "webp of a lossless head": (lambda: riff(b"VP8L" + struct.pack("<IBI", 5, 0x2F, 0x0FFFFFFF)), TOO_MANY),
    "webp whose frame is larger": (
        lambda: riff(vp8x(40, 30), saved(plain(2500, 2500), "WEBP", lossless=True)[12:]),
        DAMAGED,
    ),
    "webp whose data ends early": (lambda: half(noise("WEBP", lossless=True)), DAMAGED),
    "gif of 1 pixel": (lambda: saved(plain(1, 1), "GIF"), "side below 4"),
    "gif of 65535 x 65535": (lambda: gif(65535, 65535), TOO_MANY),
    "gif whose frame is larger": (lambda: gif(40, 30, 0, (65535, 65535)), TOO_MANY),
    "gif whose frame is far right": (lambda: gif(40, 30, 65535, (40, 30)), "more than|too thin|" + DAMAGED),
    "gif without a frame": (lambda: gif(40, 30)[:19], UNKNOWN),
    "gif of endless blocks": (lambda: gif(40, 30)[:19] + b"!\xfe" + b"\x01a" * 2_000_000, UNKNOWN),
    "gif whose data ends early": (lambda: half(noise("GIF")), DAMAGED),
    "jpeg of 1 pixel": (lambda: saved(plain(1, 1), "JPEG"), "side below 4"),
    "jpeg of 12 bits": (lambda: written_over(saved(plain(), "JPEG"), b"\xff\xc0", 4, b"\x0c"), DAMAGED),
    "jpeg of 255 colours": (lambda: written_over(saved(plain(), "JPEG"), b"\xff\xc0", 9, b"\xff"), DAMAGED),
    "jpeg without loss": (lambda: written_over(saved(plain(), "JPEG"), b"\xff\xc0", 0, b"\xff\xc3"), DAMAGED),
    "jpeg with two frame headers": (two_frame_headers, DAMAGED),
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
