"""How one reply came about, as a document: enough to compute it again and to tell whether it came out the same.

It holds no text of the prompt and no picture, only their digests. What each field means is in docs/receipts.md.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from runtime.errors import InvalidRequest

if TYPE_CHECKING:
    from pydantic import TypeAdapter

FORMAT: Final = "vlm-runtime receipt 1"
"""Changed when a field is added or gets another meaning."""


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What computed a reply."""

    model_id: str
    model_digest: str
    weights_dtype: str
    """The dtype the weights are stored in."""
    runtime: str
    """Version of the runtime."""
    contract: str
    backend: str
    backend_version: str
    device: str
    details: Mapping[str, str] = field(default_factory=dict)
    """What else decides the numbers: the dtype of the computation, versions of libraries, options, modes."""


@dataclass(frozen=True, slots=True)
class PromptFacts:
    """What was asked, without its content."""

    digest: str
    """Hex digest over tokens and pictures."""
    tokens: int
    pictures: tuple[str, ...] = ()
    """Hex digest of each picture's pixels, in the order of the prompt."""


@dataclass(frozen=True, slots=True)
class PrefillUse:
    """A size of prefill that computed a part of the prompt."""

    rows: int
    length: int
    cached: int
    """Tokens that any row's slot could hold before."""
    times: int


@dataclass(frozen=True, slots=True)
class DecodeUse:
    """A size of decode step that computed tokens; sizes of neighbouring contexts are told together."""

    rows: int
    least_context: int
    context: int
    """Tokens any row could hold, in the largest of these steps."""
    times: int


@dataclass(frozen=True, slots=True)
class VisionUse:
    """A size of picture that was encoded."""

    tiles: int
    times: int


@dataclass(frozen=True, slots=True)
class ShapesUsed:
    """The sizes in which a reply was computed, padding and neighbours included."""

    prefill: tuple[PrefillUse, ...] = ()
    decode: tuple[DecodeUse, ...] = ()
    vision: tuple[VisionUse, ...] = ()


@dataclass(frozen=True, slots=True)
class Receipt:
    """One reply."""

    server: ServerFacts
    prompt: PromptFacts
    seed: int | None
    """None for a greedy reply, which needs none."""
    parameters: Mapping[str, Any]
    """Of sampling and stopping, where they are not neutral, as JSON has them."""
    shapes: ShapesUsed
    tokens: tuple[int, ...]
    """Ids of the reply, special ones included."""
    finish_reason: str
    resumed_tokens: int = 0
    """Tokens of these that a worker told that failed; they were computed again, and not chosen again."""

    @property
    def digest(self) -> str:
        """Hex digest over everything told."""
        return _digest(self._told())

    def facts(self) -> dict[str, Any]:
        """Return the document."""
        told = self._told()
        return {**told, "digest": _digest(told)}

    def json(self) -> str:
        """Return the document as text."""
        return json.dumps(self.facts())

    @classmethod
    def of_facts(cls, facts: object) -> Receipt:
        """Read a document; raises InvalidRequest for one of another format, or that is not as it was written."""
        if not isinstance(facts, Mapping) or "format" not in facts:
            raise InvalidRequest("this is no receipt: it names no `format`")
        if facts["format"] != FORMAT:
            raise InvalidRequest(f"the receipt is of format {str(facts['format'])[:80]!r}, and {FORMAT!r} is read here")
        told = {name: value for name, value in facts.items() if name != "digest"}
        if _digest(told) != facts.get("digest"):
            raise InvalidRequest("the receipt is not as it was written: its content does not have its `digest`")
        try:
            return _reader().validate_python(told)
        except ValueError:
            raise InvalidRequest("the receipt lacks a field, or has one of another kind") from None

    @classmethod
    def of_json(cls, text: str) -> Receipt:
        """Read a document from text; raises InvalidRequest as `of_facts`."""
        try:
            facts = json.loads(text)
        except (ValueError, RecursionError):
            raise InvalidRequest("the receipt is no JSON") from None
        return cls.of_facts(facts)

    def _told(self) -> dict[str, Any]:
        # Many JSON readers know numbers up to 2**53 only, and seeds have 64 bits.
        seed = None if self.seed is None else str(self.seed)
        told: dict[str, Any] = _plain({"format": FORMAT, **asdict(self), "seed": seed})
        return told


def _plain(value: Any) -> Any:
    """Return the same with 2 in place of 2.0, which other writers of JSON do not tell apart."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _digest(told: Mapping[str, Any]) -> str:
    """Return SHA-256, in hex, of the document as JSON without spaces, its keys sorted."""
    try:
        text = json.dumps(_plain(told), sort_keys=True, separators=(",", ":"))
    except (RecursionError, TypeError):
        return ""
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def _reader() -> TypeAdapter[Receipt]:
    from pydantic import TypeAdapter  # not where receipts are only written

    return TypeAdapter(Receipt)
