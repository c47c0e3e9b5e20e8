"""Tokens to text, one at a time: the method of the two offsets (TGI, server/models/model.py) and where ours goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from runtime.detokenize import TextStream
from support.serving import MODEL, TOKENIZER, arithmetic_runtime, reply, tokens_request
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

Decode = Callable[[Sequence[int]], str]


def metaspace(ids: Sequence[int]) -> str:
    """The demo tokenizer, of Mistral's kind: a leading space is a mark, lost where a text starts."""
    return TOKENIZER.decode(list(ids), skip_special_tokens=False)


BYTES = Tokenizer(BPE({letter: index for index, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, []))
BYTES.decoder = decoders.ByteLevel()
BYTES.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)


def byte_level(ids: Sequence[int]) -> str:
    """A tokenizer of GPT-2's kind in which each byte is a token, a leading space too."""
    text: str = BYTES.decode(list(ids), skip_special_tokens=False)
    return text


def in_bytes(data: bytes) -> list[int]:
    """Of the demo tokenizer, whose tokens of bytes start at 3."""
    return [3 + byte for byte in data]


def words(text: str) -> list[int]:
    return TOKENIZER.encode(text, add_special_tokens=False)


IMAGE = MODEL.image_token_id
assert IMAGE is not None
RED = words("a red")[-1]
VECTORS: dict[str, tuple[Decode, list[int], list[int], list[str]]] = {
    # how ids are decoded, end of the prompt, new ids, texts
    "two bytes": (metaspace, words("a"), in_bytes("é".encode()), ["", "é"]),
    "three bytes": (metaspace, words("a"), in_bytes("€".encode()), ["", "", "€"]),
    "four bytes": (metaspace, words("a"), in_bytes("🦊".encode()), ["", "", "", "🦊"]),
    "four bytes of a byte-level tokenizer": (byte_level, [], BYTES.encode("🦊").ids, ["", "", "", "🦊"]),
    "two characters side by side": (metaspace, words("a"), in_bytes("é€".encode()), ["", "é", "", "", "€"]),
    "space before a word": (metaspace, words("a"), [RED, RED], [" red", " red"]),
    "space at the start of a text": (metaspace, [], [RED, RED], ["red", " red"]),
    "space of a byte-level tokenizer": (byte_level, BYTES.encode("a").ids, BYTES.encode(" b").ids, [" ", "b"]),
    "images before the offset": (metaspace, [1, *[IMAGE] * 6], [RED, RED], [" red", " red"]),
    "images further back": (metaspace, [1, IMAGE, *words("What is this")], [RED], [" red"]),
    "end of sequence is shown": (metaspace, words("a"), [RED, 2], [" red", "</s>"]),
    # TGI holds back all text until something follows that completes a character: here five tokens, without an end.
    "bytes that are no character": (metaspace, words("a"), in_bytes(b"\xff" * 5), ["", "", "", "\ufffd", "\ufffd"]),
    "a letter after half a character": (metaspace, words("a"), [*in_bytes(b"\xe2"), RED], ["", "\ufffd red"]),
}


@pytest.mark.parametrize(("decode", "prompt", "new", "texts"), VECTORS.values(), ids=VECTORS.keys())
def test_text_of_each_token(decode: Decode, prompt: list[int], new: list[int], texts: list[str]) -> None:
    """Whole characters, with the space that the prompt before them calls for, and nothing of the prompt."""
    stream = TextStream(decode, prompt)
    assert [stream.push(token) for token in new] == texts


@pytest.mark.anyio
async def test_whole_text_has_no_special_tokens() -> None:
    """The end of sequence is a token of the stream and no part of the reply's text."""
    async with arithmetic_runtime() as runtime:
        answer = await reply(runtime, tokens_request([300], 8))
    assert [(token.id, token.text, token.special) for token in answer.tokens] == [(2, "</s>", True)]
    assert answer.completion is not None
    assert answer.completion.text == ""
