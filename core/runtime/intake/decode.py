"""Encoded bytes to RGB pixels, within limits."""

from __future__ import annotations

import hashlib
import io
import struct
import warnings
from dataclasses import dataclass
from typing import Final

from PIL import Image, ImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from runtime.errors import ImageRefused
from runtime.intake.header import Header, read_header
from runtime.intake.limits import IntakeLimits

# Pillow reports oddities of a picture (broken EXIF, a wrong APNG count) as warnings. Filters belong to the process and
# decoding happens in threads, so they are silenced here once; what matters becomes an ImageRefused.
warnings.filterwarnings("ignore", module=r"PIL\.")

_OPENERS: Final[dict[str, type[ImageFile.ImageFile]]] = {
    "PNG": PngImageFile,
    "JPEG": JpegImageFile,
    "GIF": GifImageFile,
    "WEBP": WebPImageFile,
}
_EXIF_ORIENTATION: Final = 0x0112
_UPRIGHT: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What puts a picture upright, by its EXIF orientation."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded picture."""

    image: Image.Image
    """RGB, upright."""
    digest: bytes
    """SHA-256 over mode, size and pixels: equal for the same picture in two encodings."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width), pixels."""
        return self.image.height, self.image.width


def decode_picture(data: bytes, index: int, limits: IntakeLimits) -> Picture:
    """Decode PNG, JPEG, GIF or WebP; `index` is the picture's place in the request, for error texts.

    Of an animation the first frame is taken. EXIF orientation is applied, transparency is laid on white, 16-bit grey
    is scaled to 8 bits. Raises ImageRefused; bytes and header are checked before any pixel is decoded.
    """
    header = _check(data, index, limits)
    try:
        with _OPENERS[header.kind](io.BytesIO(data)) as encoded:
            if (encoded.height, encoded.width) != (header.height, header.width):
                raise ValueError("two sizes in one file")
            encoded.load()
            image = _upright(_to_rgb(encoded), _orientation(encoded))
    except MemoryError:
        raise out_of_memory(index) from None
    except Exception:  # whatever an image library does with hostile bytes
        raise ImageRefused(
            f"picture {index}: the {header.kind} data is damaged or incomplete; encode the picture again"
        ) from None
    return Picture(image, _digest(image))


def out_of_memory(index: int) -> ImageRefused:
    """Return the refusal of a picture whose decoding takes more memory than a process may have."""
    return ImageRefused(f"picture {index}: decoding it takes more memory than this server gives; scale it down")


def _check(data: bytes, index: int, limits: IntakeLimits) -> Header:
    if not data:
        raise ImageRefused(f"picture {index}: it has no bytes; send a PNG, JPEG, WebP or GIF file")
    if len(data) > limits.max_bytes:
        raise ImageRefused(
            f"picture {index}: {len(data)} bytes are more than {limits.max_bytes}, the most this server takes; "
            "send a smaller picture"
        )
    header = read_header(data)
    if header is None:
        raise ImageRefused(f"picture {index}: it is not a PNG, JPEG, WebP or GIF file; convert it to one of these")
    shown = f"{header.height} x {header.width} pixels (height x width)"
    if header.height * header.width > limits.max_pixels:
        raise ImageRefused(
            f"picture {index}: {shown} are more than {limits.max_pixels}, the most this server takes; scale it down"
        )
    if min(header.height, header.width) < limits.min_side:
        raise ImageRefused(
            f"picture {index}: {shown} have a side below {limits.min_side} pixels; send a larger picture"
        )
    return header


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey, which convert() would clip at 255
        image = image.convert("I").point(lambda value: value * (1 / 257) + 0.5).convert("L")
    elif image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("RGB")


def _orientation(image: Image.Image) -> object:
    """Return the EXIF orientation; 1 (upright) when there is none or it cannot be read."""
    try:
        return image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:
        return 1


def _upright(image: Image.Image, orientation: object) -> Image.Image:
    method = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return image if method is None else image.transpose(method)


def _digest(image: Image.Image) -> bytes:
    digest = hashlib.sha256(image.mode.encode() + struct.pack(">II", image.width, image.height))
    digest.update(image.tobytes())
    return digest.digest()
