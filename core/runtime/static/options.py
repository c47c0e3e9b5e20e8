"""Options that every backend made with the toolkit has."""

from __future__ import annotations

from typing import Final

from runtime.backend import Knob

IMAGE_CACHE_BYTES: Final = Knob(
    "image_cache_bytes",
    "IMAGE_CACHE_BYTES",
    int,
    256 * 2**20,
    "Memory for the features of pictures seen before, bytes; 0 keeps none.",
    lowest=0,
    highest=2**40,
)
"""For `LlavaNext`."""
