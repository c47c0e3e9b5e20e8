"""Telling a prompt token by token."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from runtime.detokenize import TextStream
from runtime.runtime import GenerateRequest, PromptToken, TextPart
from runtime.vocabulary import Vocabulary


def prompt_tokens(tokens: Sequence[int], vocabulary: Vocabulary, request: GenerateRequest) -> tuple[PromptToken, ...]:
    """Return each token with what it adds to the text, and where that stands in a prompt that is one text."""
    stream = TextStream(vocabulary)
    told = [PromptToken(token, stream.push(token), vocabulary.is_special(token)) for token in tokens]
    match request.parts:
        case (TextPart(text),):
            return _placed(told, text)
    return tuple(told)


def _placed(tokens: Iterable[PromptToken], text: str) -> tuple[PromptToken, ...]:
    """Find the tokens in the text, one after the other; white space that the tokenizer added stands nowhere."""
    placed: list[PromptToken] = []
    position = 0
    for token in tokens:
        for piece in (token.text, token.text.lstrip(" ")):
            if text.startswith(piece, position):
                token = replace(token, start=position, stop=position + len(piece))
                position += len(piece)
                break
        placed.append(token)
    return tuple(placed)
