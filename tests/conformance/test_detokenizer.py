"""Tokens to text, one at a time: the method of the two offsets (TGI, server/models/model.py) and where ours goes on."""

from __future__ import annotations

import pytest
from runtime.detokenize import TextStream
from runtime.prompt.tokenizer import Tokenizer
from support.serving import MODEL, TOKENIZER, arithmetic_runtime, reply, tokens_request
from support.toy_tokenizers import byte_level
from tokenizers import pre_tokenizers

METASPACE = TOKENIZER
"""Of Mistral's kind: a leading space is a mark, lost where a text starts."""
BYTES = byte_level()
"""Of GPT-2's kind: each byte is a token, a leading space too."""
LETTERS = sorted(pre_tokenizers.ByteLevel.alphabet())
"""What BYTES has in the place of bytes, by their ids."""


def letters(text: str) -> list[int]:
    """Ids of BYTES, one for each byte."""
    ((written, _),) = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)
    return [LETTERS.index(letter) for letter in written]


def in_bytes(data: bytes) -> list[int]:
    """Of the demo tokenizer, whose tokens of bytes start at 3."""
    return [3 + byte for byte in data]


def words(text: str) -> list[int]:
    return TOKENIZER.encode(text, add_special_tokens=False)


IMAGE = MODEL.image_token_id
assert IMAGE is not None
RED = words("a red")[-1]
VECTORS: dict[str, tuple[Tokenizer, list[int], list[int], list[str]]] = {
    # tokenizer, end of the prompt, new ids, texts
    "two bytes": (METASPACE, words("a"), in_bytes("é".encode()), ["", "é"]),
    "three bytes": (METASPACE, words("a"), in_bytes("€".encode()), ["", "", "€"]),
    "four bytes": (METASPACE, words("a"), in_bytes("🦊".encode()), ["", "", "", "🦊"]),
    "four bytes of a byte-level tokenizer": (BYTES, [], letters("🦊"), ["", "", "", "🦊"]),
    "two characters side by side": (METASPACE, words("a"), in_bytes("é€".encode()), ["", "é", "", "", "€"]),
    "space before a word": (METASPACE, words("a"), [RED, RED], [" red", " red"]),
    "space at the start of a text": (METASPACE, [], [RED, RED], ["red", " red"]),
    "space of a byte-level tokenizer": (BYTES, letters("a"), letters(" b"), [" ", "b"]),
    "images before the offset": (METASPACE, [1, *[IMAGE] * 6], [RED, RED], [" red", " red"]),
    "images further back": (METASPACE, [1, IMAGE, *words("What is this")], [RED], [" red"]),
    "end of sequence is shown": (METASPACE, words("a"), [RED, 2], [" red", "</s>"]),
    # TGI holds back all text until something follows that completes a character: here five tokens, without an end.
    "bytes that are no character": (METASPACE, words("a"), in_bytes(b"\xff" * 5), ["", "", "", "\ufffd", "\ufffd"]),
    "a letter after half a character": (METASPACE, words("a"), [*in_bytes(b"\xe2"), RED], ["", "\ufffd red"]),
}


@pytest.mark.parametrize(("tokenizer", "prompt", "new", "texts"), VECTORS.values(), ids=VECTORS.keys())
def test_text_of_each_token(tokenizer: Tokenizer, prompt: list[int], new: list[int], texts: list[str]) -> None:
    """Whole characters, with the space that the prompt before them calls for, and nothing of the prompt."""
    stream = TextStream(tokenizer, prompt)
    assert [stream.push(token) for token in new] == texts


@pytest.mark.anyio
async def test_whole_text_has_no_special_tokens() -> None:
    """The end of sequence is a token of the stream and no part of the reply's text."""
    async with arithmetic_runtime() as runtime:
        answer = await reply(runtime, tokens_request([300], 8))
    assert [(token.id, token.text, token.special) for token in answer.tokens] == [(2, "</s>", True)]
    assert answer.completion is not None
    assert answer.completion.text == ""
