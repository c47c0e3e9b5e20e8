"""Prompts and replies written as token ids, "1,733,16289": TGI-Gaudi's SKIP_TOKENIZER_IN_TGI."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from runtime.errors import InvalidRequest
from runtime.runtime import GenerateRequest, Part, TextPart, TokensPart

LONGEST_ID = 10
"""Digits; the builder checks the ids themselves."""


class WrittenIds:
    """Stands where the tokenizer does: a comma comes before each id of a reply, so that prompt and reply join up."""

    def read(self, request: GenerateRequest) -> GenerateRequest:
        """Return the request with ids in place of texts; raises InvalidRequest when a text is something else."""
        if request.messages:
            raise InvalidRequest("this server takes token ids and no conversations; send a prompt like 1,733,16289")
        return replace(request, parts=tuple(map(_part, request.parts)))

    def decode(self, ids: Sequence[int], skip_special_tokens: bool) -> str:  # noqa: ARG002
        """Return all ids with commas between them."""
        return ",".join(map(str, ids))

    def addition(self, id: int) -> str | None:
        """Return an id behind others."""
        return f",{id}"

    def is_special(self, token: int) -> bool:  # noqa: ARG002
        """Tell that no id is left out of a reply."""
        return False


def _part(part: Part) -> Part:
    if not isinstance(part, TextPart):
        return part
    text = part.text.strip().strip(",")  # beside a picture a comma may begin or end it
    return TokensPart(tuple(_id(word.strip()) for word in text.split(",")) if text else ())


def _id(word: str) -> int:
    if not (word.isascii() and word.isdigit() and len(word) <= LONGEST_ID):
        raise InvalidRequest(f"this server takes token ids with commas between them, got {word[:20]!r}")
    return int(word)
