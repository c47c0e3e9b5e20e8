"""Text to token ids and back, straight from the model's tokenizer.json.

The file is the truth: transformers rebuilds parts of some tokenizers from other settings, differently by version.
"""

from __future__ import annotations

import copy
import json
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tokenizers

from runtime.errors import InvalidRequest, ModelRefused
from runtime.prompt.additions import additions
from runtime.prompt.files import read_json


class Tokenizer:
    """Encodes and decodes; a placeholder typed by a user is text to it. Safe to use from several threads."""

    def __init__(self, content: dict[str, Any], bos_token: str, eos_token: str, image_token_id: int | None) -> None:
        """`content` is a parsed tokenizer.json."""
        self._decoder = _parse(content)
        vocabulary: dict[str, int] = self._decoder.get_vocab(with_added_tokens=True)
        added = self._decoder.get_added_tokens_decoder()
        self.bos_token = bos_token
        """Empty when the model has none; so is eos_token."""
        self.eos_token = eos_token
        self.vocabulary = 1 + max(vocabulary.values(), default=-1)
        """One more than the largest id."""
        self.longest_token = max(map(len, vocabulary), default=0)
        """Characters; no text of n characters has fewer than n / longest_token tokens."""
        self.image_token: str | None = None
        """How chat templates write a picture, None for a text model."""
        self.image_placeholder = ""
        """How `encode` wants it written. Random, so that no user can type it, and never shown."""
        self._additions = additions(self._decoder, content.get("decoder"), self.vocabulary)
        self._special = frozenset(id for id, token in added.items() if token.special)
        self._encoder = self._decoder
        if image_token_id is not None:
            if image_token_id not in added:
                raise ModelRefused(
                    f"the image token {image_token_id} of config.json is not an added token of tokenizer.json; "
                    "the two files belong to different models"
                )
            self.image_token = added[image_token_id].content
            self.image_placeholder = f"<picture-{secrets.token_hex(16)}>"
            self._encoder = _parse(_renamed(content, image_token_id, self.image_token, self.image_placeholder))
            self._check_placeholder(image_token_id)

    @classmethod
    def load(cls, path: Path, image_token_id: int | None) -> Tokenizer:
        """Read a model folder; raises ModelRefused."""
        content = read_json(path, "tokenizer.json")
        if not content:
            raise ModelRefused("the model has no tokenizer.json; convert its tokenizer with transformers and save it")
        config = read_json(path, "tokenizer_config.json")
        return cls(content, _token_text(config.get("bos_token")), _token_text(config.get("eos_token")), image_token_id)

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        """Return the ids of a text; time grows with its length, which the caller bounds.

        Special tokens written in it are recognised, the image token is not. Raises InvalidRequest for text that is no
        valid Unicode.
        """
        try:
            ids: list[int] = self._encoder.encode(text, add_special_tokens=add_special_tokens).ids
        except (TypeError, UnicodeEncodeError):
            raise InvalidRequest("the text holds half of a surrogate pair; send whole Unicode characters") from None
        return ids

    def decode(self, ids: Sequence[int], skip_special_tokens: bool) -> str:
        """Return the text of ids; white space is left as the tokens spell it."""
        text: str = self._decoder.decode(ids, skip_special_tokens=skip_special_tokens)
        return text

    def addition(self, id: int) -> str | None:
        """Return what an id adds to a text that is there and whole; None where that depends on the text."""
        return self._additions[id] if id < self.vocabulary else None

    def is_special(self, id: int) -> bool:
        """Whether an id is a control token, such as the end of a reply, and no text."""
        return id in self._special

    def _check_placeholder(self, image_token_id: int) -> None:
        """Refuse a tokenizer for which pictures and typed placeholders could be mixed up."""
        written = self.encode(f"a{self.image_placeholder}{self.image_placeholder}b", add_special_tokens=False)
        typed = self.encode(f"a {self.image_token}b", add_special_tokens=False)
        if written.count(image_token_id) != 2 or image_token_id in typed:
            raise ModelRefused(
                f"tokenizer.json does not treat the image token {image_token_id} as one token in every place"
            )


def _parse(content: dict[str, Any]) -> Any:
    try:
        tokenizer = tokenizers.Tokenizer.from_str(json.dumps(content))
    except Exception:  # the library raises nothing more specific
        raise ModelRefused(
            "tokenizer.json is damaged or of a newer format; restore it or upgrade the package tokenizers"
        ) from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _renamed(content: dict[str, Any], id: int, old: str, new: str) -> dict[str, Any]:
    """Give one added token another text. Removing it instead would shift the ids of those after it."""
    renamed = copy.deepcopy(content)
    for token in renamed["added_tokens"]:
        if token["id"] == id:
            token["content"] = new
    vocabulary = renamed["model"].get("vocab")
    if isinstance(vocabulary, dict) and old in vocabulary:
        vocabulary[new] = vocabulary.pop(old)
    return renamed


def _token_text(entry: Any) -> str:
    """Return the text of a token in tokenizer_config.json: a string, or an object with `content`."""
    text = entry.get("content") if isinstance(entry, dict) else entry
    return text if isinstance(text, str) else ""
