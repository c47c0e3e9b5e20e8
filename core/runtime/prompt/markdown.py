"""Pictures written into a prompt as markdown."""

from __future__ import annotations

from typing import Final

from runtime.runtime import ImageUrlPart, Part, TextPart

_OPEN: Final = "![]("
_CLOSE: Final = ")"


def split_markdown(inputs: str) -> tuple[Part, ...]:
    """Split `![](ADDRESS)` out of a prompt; a text without it comes back as one TextPart.

    TGI's form (router/src/validation.rs): the alt text is empty and the address ends at the first `)`, whatever is
    between. Each character is looked at once, so the time is linear in the text.
    """
    parts: list[Part] = []
    start = 0
    while (opening := inputs.find(_OPEN, start)) >= 0:
        address = opening + len(_OPEN)
        closing = inputs.find(_CLOSE, address)
        if closing < 0:
            break
        if opening > start:
            parts.append(TextPart(inputs[start:opening]))
        parts.append(ImageUrlPart(inputs[address:closing]))
        start = closing + len(_CLOSE)
    if start < len(inputs) or not parts:
        parts.append(TextPart(inputs[start:]))
    return tuple(parts)
