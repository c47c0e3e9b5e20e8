"""What tells two prompts apart: their tokens and the content of their pictures."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence

from runtime.backend import Images


def prompt_digest(tokens: Sequence[int], images: Images | None) -> str:
    """Return 256 bits, in hex, over the tokens of a prompt and the digests of its pictures, in their order."""
    digest = hashlib.sha256(array("q", tokens).tobytes())
    for picture in () if images is None else images.digests:
        digest.update(picture)
    return digest.hexdigest()
