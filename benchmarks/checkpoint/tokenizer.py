"""A tokenizer of Llama's kind, made by rule: byte-pair encoding with a fallback to bytes, and spaces written as `▁`.

Its words are pairs of syllables, each one token, so a text of so many words has as many tokens; and every token but
the control and byte tokens decodes to text that can be seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, product
from random import Random
from typing import Any, Final

IMAGE_TOKEN: Final = 32000
PAD_TOKEN: Final = 32001
BOS_TOKEN: Final = 1
EOS_TOKEN: Final = 2
CONTROL: Final = ("<unk>", "<s>", "</s>")
INVISIBLE: Final = len(CONTROL) + 256
"""The first ids, of control and byte tokens, decode to no text by themselves."""

SPACE: Final = "▁"
CHARACTERS: Final = (SPACE, *map(chr, range(ord("!"), ord("~") + 1)))
SYLLABLES: Final = tuple(map("".join, product("bcdfghjklmnpqrstvwxz", "aeiou")))
WORDS: Final = tuple(map("".join, product(SYLLABLES, SYLLABLES)))


def words(count: int, seed: int) -> str:
    """Return a text of `count` tokens, whether it begins the prompt or follows other text without a space."""
    return " ".join(Random(seed).choices(WORDS, k=count))


def tokenizer_json() -> dict[str, Any]:
    """Return the content of a tokenizer.json."""
    pieces = [*CONTROL, *(f"<0x{byte:02X}>" for byte in range(256)), *CHARACTERS]
    merges = list(islice(_merges(), IMAGE_TOKEN - len(pieces)))
    pieces += map("".join, merges)
    vocabulary = {piece: id for id, piece in enumerate([*pieces, "<image>", "<pad>"])}
    special = (*CONTROL, "<image>", "<pad>")
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": vocabulary[content],
                "content": content,
                "special": True,
                **dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False),
            }
            for content in special
        ],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": SPACE},
                {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
            ],
        },
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [BOS_TOKEN], "tokens": ["<s>"]}},
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": {piece: id for piece, id in vocabulary.items() if id < IMAGE_TOKEN},
            "merges": [list(merge) for merge in merges],
        },
    }


def tokenizer_config() -> dict[str, Any]:
    """Return the content of a tokenizer_config.json."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "pad_token": "<pad>",
        "model_max_length": 2**20,
        "clean_up_tokenization_spaces": False,
    }


def _merges() -> Iterator[tuple[str, str]]:
    """Yield what is joined, what comes first before what comes later: syllables, words, spaces, and longer words."""
    yield from ((syllable[0], syllable[1]) for syllable in SYLLABLES)
    yield from product(SYLLABLES, SYLLABLES)
    yield from product((SPACE,), WORDS)
    yield from product((SPACE,), SYLLABLES)
    yield from product(WORDS, SYLLABLES)
