"""What each id of a tokenizer adds to a text, where that does not depend on the text."""

from __future__ import annotations

from typing import Any, Final

from runtime.vocabulary import INCOMPLETE

LLAMA: Final = ["Replace", "ByteFallback", "Fuse", "Strip"]
"""Marks become spaces, bytes characters; the pieces are joined, and the whole loses its first space."""


def additions(tokenizer: Any, decoder: Any, size: int) -> list[str | None]:
    """Return what each id below `size` adds to a text that is there and does not end inside a character.

    None where that takes more than the id to know: for parts of characters, and for all ids where `decoder`, as
    tokenizer.json has it, does more than to join the texts of tokens. `tokenizer` is the library's.
    """
    anchor = next((id for id in range(size) if _is_text(tokenizer.decode([id], skip_special_tokens=False))), None)
    if anchor is None or not _only_joins(decoder):
        return [None] * size
    before = len(tokenizer.decode([anchor], skip_special_tokens=False))
    pairs = [[anchor, id] for id in range(size)]
    added = [text[before:] for text in tokenizer.decode_batch(pairs, skip_special_tokens=False)]
    return [None if INCOMPLETE in text else text for text in added]


def _only_joins(decoder: Any) -> bool:
    """Whether a token's text is the same behind any text, as with the decoders of LLaMA, Mistral and GPT-2.

    True of those known, never guessed: others drop repetitions, or put spaces between words.
    """
    match decoder:
        case {"type": "ByteLevel"}:
            return True
        case {"type": "Sequence", "decoders": [*steps]}:
            kinds = [step["type"] for step in steps]
            return kinds == LLAMA[:3] or (kinds == LLAMA and steps[3]["start"] <= 1 and steps[3]["stop"] == 0)
    return False


def _is_text(text: str) -> bool:
    return text != "" and INCOMPLETE not in text
