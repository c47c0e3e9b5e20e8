"""The kind and size of a picture, read from its first bytes without an image library.

Pillow allocates the canvas of a WebP and fills the first frame of some GIFs while it opens them, so a size limit must
be checked before it sees the data. Layouts: PNG (W3C, IHDR), JPEG (ITU-T T.81 B.1, SOF), GIF89a (logical screen and
image descriptor), WebP (RFC 9649).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, Literal

_STEPS: Final = 2**16
"""Segments or blocks looked at before the size; real files have a few hundred at most."""


@dataclass(frozen=True, slots=True)
class Header:
    """What the first bytes of a picture say about it."""

    kind: Literal["PNG", "JPEG", "GIF", "WEBP"]
    height: int
    width: int


def read_header(data: bytes) -> Header | None:
    """Return None when the data is of no known kind, or its size cannot be found."""
    try:
        if data.startswith(b"\x89PNG\r\n\x1a\n") and data[12:16] == b"IHDR":
            width, height = struct.unpack_from(">II", data, 16)
            return Header("PNG", height, width)
        if data.startswith(b"\xff\xd8\xff"):
            return _read_jpeg(data)
        if data.startswith((b"GIF87a", b"GIF89a")):
            return _read_gif(data)
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return _read_webp(data)
    except (struct.error, IndexError):  # the data ends too early
        return None
    return None


def _read_jpeg(data: bytes) -> Header | None:
    """Walk the segments to the first frame header (SOF0 to SOF15; C4, C8 and CC are other segments)."""
    position = 2
    for _ in range(_STEPS):
        marker = data[position + 1]
        if data[position] != 0xFF or marker == 0xFF:  # stray or fill byte
            position += 1
        elif marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8:  # no segment follows
            position += 2
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, position + 5)
            return Header("JPEG", height, width)
        else:
            position += 2 + int(struct.unpack_from(">H", data, position + 2)[0])
    return None


def _read_gif(data: bytes) -> Header | None:
    """Return the logical screen, grown by a first frame that reaches beyond it."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    position = 13 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)  # behind the colour table
    in_blocks = False  # an extension is 21 <label>, then blocks of <length> <bytes> up to an empty one
    for _ in range(_STEPS):
        byte = data[position]
        if in_blocks:
            position += 1 + byte
            in_blocks = byte > 0
        elif byte == 0x21:
            position += 2
            in_blocks = True
        elif byte == 0x2C:  # image descriptor
            left, top, frame_width, frame_height = struct.unpack_from("<HHHH", data, position + 1)
            return Header("GIF", max(height, top + frame_height), max(width, left + frame_width))
        else:  # noise, skipped by every decoder
            position += 1
    return None


def _read_webp(data: bytes) -> Header | None:
    chunk = data[12:16]
    if chunk == b"VP8X":  # 24 bits each, less one
        return Header("WEBP", 1 + _uint24(data, 27), 1 + _uint24(data, 24))
    if chunk == b"VP8L":  # 14 bits each, less one
        bits = struct.unpack_from("<I", data, 21)[0]
        return Header("WEBP", 1 + (bits >> 14 & 0x3FFF), 1 + (bits & 0x3FFF))
    if chunk == b"VP8 ":  # 14 bits each, below two bits of scale
        width, height = struct.unpack_from("<HH", data, 26)
        return Header("WEBP", height & 0x3FFF, width & 0x3FFF)
    return None


def _uint24(data: bytes, position: int) -> int:
    low, high = struct.unpack_from("<HB", data, position)
    return int(low | high << 16)
