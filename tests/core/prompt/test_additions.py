"""Which ids are known to add the same text everywhere."""

from __future__ import annotations

import json
from typing import Any

import pytest
from runtime.prompt.additions import additions
from tokenizers import Tokenizer, decoders, models

PIECES = {"a": 0, "▁b": 1, "<0xC3>": 2, "<0x41>": 3}
REPLACE, BYTES, FUSE = decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()
OTHERS = [
    None,
    decoders.Fuse(),
    decoders.CTC(),
    decoders.WordPiece(),
    decoders.Sequence([REPLACE, BYTES, FUSE, decoders.Strip(" ", 2, 0)]),
    decoders.Sequence([REPLACE, BYTES, FUSE, decoders.Strip(" ", 1, 1)]),
    decoders.Sequence([BYTES, FUSE, REPLACE]),
]


def known(decoder: Any, size: int = len(PIECES)) -> list[str | None]:
    tokenizer = Tokenizer(models.BPE(PIECES, []))
    if decoder is not None:
        tokenizer.decoder = decoder
    return additions(tokenizer, json.loads(tokenizer.to_str())["decoder"], size)


@pytest.mark.parametrize("strip", [[], [decoders.Strip(" ", 1, 0)]])
def test_llama(strip: list[Any]) -> None:
    """Words with their space; a byte that is a character, but no part of one; nothing for an id without a piece."""
    assert known(decoders.Sequence([REPLACE, BYTES, FUSE, *strip]), 5) == ["a", " b", None, "A", ""]


@pytest.mark.parametrize("decoder", OTHERS, ids=str)
def test_of_other_decoders_nothing_is_known(decoder: Any) -> None:
    """They look at neighbours, or are not known."""
    assert known(decoder) == [None] * len(PIECES)


def test_tokenizer_without_text_is_no_matter() -> None:
    """There is nothing that a text could begin with."""
    assert additions(Tokenizer(models.BPE({}, [])), {"type": "ByteLevel"}, 2) == [None, None]
