"""What a request may ask of the picture decoder."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class IntakeLimits:
    """Bounds on the pictures of one request."""

    max_bytes: int = 20 * 2**20
    """Bytes of one encoded picture."""
    max_pixels: int = 50_000_000
    """Height times width of one picture; decoding one with transparency takes up to some 20 bytes for each."""
    max_images: int = 16
    """Pictures of one request."""
    min_side: int = 4
    """Pixels; a side of 1 to 3 shows nothing, and image libraries mistake it for the axis of the channels."""
