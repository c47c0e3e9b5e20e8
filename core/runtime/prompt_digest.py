"""What tells two prompts apart: their tokens and the content of their pictures."""

from __future__ import annotations

import hashlib

from runtime.prefixes import Symbols


def prompt_digest(symbols: Symbols) -> str:
    """Return 256 bits, in hex, over what a prompt leaves in a slot; equal for equal prompts, in every process."""
    return hashlib.sha256(repr(symbols).encode()).hexdigest()
