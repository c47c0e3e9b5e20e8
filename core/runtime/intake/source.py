"""The encoded bytes of a picture, whichever way it came."""

from __future__ import annotations

import base64
import re
from typing import Final

from runtime.errors import ImageRefused, ImageUrlNotEnabled
from runtime.intake.limits import IntakeLimits
from runtime.runtime import ImagePart, ImageUrlPart

_REMOTE: Final = re.compile(r"https?:", re.IGNORECASE)
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,15}):")


def picture_bytes(part: ImagePart | ImageUrlPart, index: int, limits: IntakeLimits) -> bytes:
    """Return a picture sent by value; `index` is its place in the request, for error texts.

    Raises ImageUrlNotEnabled for http(s) addresses and ImageRefused for everything else that is no picture.
    """
    if isinstance(part, ImagePart):
        return part.data
    scheme = _scheme(part.url, index)
    if scheme == "data":
        return _decode_data_uri(part.url, index, limits)
    remedy = "send the picture itself as a data: URI (data:image/png;base64,...)"
    if scheme in ("http", "https"):
        raise ImageUrlNotEnabled(f"picture {index}: this server does not fetch {scheme} addresses; {remedy}")
    raise ImageRefused(f"picture {index}: addresses of the scheme {scheme!r} are not supported; {remedy}")


def is_remote(part: ImageUrlPart) -> bool:
    """Tell whether the picture must be fetched."""
    return _REMOTE.match(part.url) is not None


def _scheme(url: str, index: int) -> str:
    match = _SCHEME.match(url)
    if match is None:
        raise ImageRefused(f"picture {index}: the address has no scheme; send a data: URI (data:image/png;base64,...)")
    return match[1].lower()


def _decode_data_uri(uri: str, index: int, limits: IntakeLimits) -> bytes:
    """Decode `data:[<media type>];base64,<data>` (RFC 2397); the media type is not trusted and not read."""
    comma = uri.find(",")
    if comma < 0 or not uri[:comma].lower().endswith(";base64"):
        raise ImageRefused(f"picture {index}: the data: URI is not base64; write data:image/png;base64,<data>")
    encoded = len(uri) - comma - 1
    if encoded > (limits.max_bytes + 2) // 3 * 4:
        raise ImageRefused(
            f"picture {index}: {encoded} characters of base64 hold more than {limits.max_bytes} bytes, the most this "
            "server takes; send a smaller picture"
        )
    try:
        return base64.b64decode(uri[comma + 1 :], validate=True)
    except ValueError:
        raise ImageRefused(
            f"picture {index}: the data: URI holds characters or padding that are not base64; use the standard "
            "alphabet (A-Z a-z 0-9 + /) with = padding and no white space"
        ) from None
