"""Small tokenizers of the kinds that models have, with what a real one would be tested for."""

from __future__ import annotations

import json
from typing import Any

from runtime.prompt.tokenizer import Tokenizer
from tokenizers import Tokenizer as Built
from tokenizers import decoders, models, pre_tokenizers


def llama_like(strip: bool = True) -> Tokenizer:
    """Pieces with a mark for the space, bytes for the rest: LLaMA's, Mistral's; without `strip` Gemma's."""
    spelled = [f"<0x{byte:02X}>" for byte in range(256)]
    steps: list[Any] = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    steps += [decoders.Strip(" ", 1, 0)] if strip else []
    pieces = ["<unk>", *spelled, "▁", "▁▁", "▁red", "red", "▁a", ".", "é", "語", "\n"]
    return _built(models.BPE(_numbered(pieces), [], byte_fallback=True), decoders.Sequence(steps))


def byte_level() -> Tokenizer:
    """Every piece is bytes, some of them parts of characters: GPT-2's, LLaMA 3's, Qwen's."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = ["Ġred", "Ġa", "red", "âĤ", "¬Ġ", "ðŁ", "Ã©"]  # half of a euro, its end with a space, half of an emoji, é
    return _built(models.BPE(_numbered([*letters, *pieces]), []), decoders.ByteLevel())


def word_piece() -> Tokenizer:
    """What a token adds depends on its neighbours: BERT's."""
    pieces = ["[UNK]", "red", "##der", ".", "a", "'", "don", "t", "n't"]
    return _built(models.WordPiece(_numbered(pieces), unk_token="[UNK]"), decoders.WordPiece())


def _built(model: Any, decoder: Any) -> Tokenizer:
    made = Built(model)
    made.decoder = decoder
    made.add_special_tokens(["<s>", "</s>", "<image>"])
    return Tokenizer(json.loads(made.to_str()), "<s>", "</s>", image_token_id=None)


def _numbered(pieces: list[str]) -> dict[str, int]:
    return {piece: id for id, piece in enumerate(pieces)}
