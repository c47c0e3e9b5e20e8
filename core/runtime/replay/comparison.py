"""Two receipts side by side."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from typing import Any

from runtime.receipt import DecodeUse, PrefillUse, Receipt, ShapesUsed


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact of both; None where one of them does not tell it."""

    name: str
    before: str | None
    now: str | None

    @property
    def is_same(self) -> bool:
        return self.before == self.now


@dataclass(frozen=True, slots=True)
class TokenDifference:
    """The first token in which two replies differ; an id is None where the reply has ended before."""

    position: int
    """From 0."""
    before: int | None
    now: int | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """A receipt, and that of the same request computed again."""

    before: Receipt
    now: Receipt

    @property
    def same_prompt(self) -> bool:
        """Whether the same was asked; else there is nothing to compare."""
        return self.before.prompt.digest == self.now.prompt.digest

    @property
    def is_reproduced(self) -> bool:
        """Whether the same request has got the same tokens."""
        return self.same_prompt and self.first_difference is None

    @property
    def first_difference(self) -> TokenDifference | None:
        """The first token that differs."""
        pairs = zip_longest(self.before.tokens, self.now.tokens)
        return next((TokenDifference(at, *pair) for at, pair in enumerate(pairs) if pair[0] != pair[1]), None)

    def facts(self) -> Sequence[Fact]:
        """Return everything told beside the tokens, in the order of what to look at first."""
        before, now = dict(_facts(self.before)), dict(_facts(self.now))
        return [Fact(name, before.get(name), now.get(name)) for name in {**before, **now}]


def _facts(receipt: Receipt) -> Iterator[tuple[str, str]]:
    yield "prompt", receipt.prompt.digest
    yield "tokens of the prompt", str(receipt.prompt.tokens)
    for number, picture in enumerate(receipt.prompt.pictures):
        yield f"picture {number}", picture
    yield "seed", "none: greedy" if receipt.seed is None else str(receipt.seed)
    yield from _told(receipt.parameters)
    server = asdict(receipt.server)
    details = server.pop("details")
    yield from ((name.replace("_", " "), value) for name, value in server.items())
    yield from _told(details)
    yield from _shapes(receipt.shapes)
    yield "resumed tokens", str(receipt.resumed_tokens)
    yield "finish reason", receipt.finish_reason


def _told(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in sorted(values):
        value = values[name]
        yield name.replace("_", " "), value if isinstance(value, str) else json.dumps(value)


def _shapes(shapes: ShapesUsed) -> Iterator[tuple[str, str]]:
    yield "pictures of", _joined(f"{use.times} x {use.tiles} tiles" for use in shapes.vision)
    yield "prefills of", _joined(map(_prefill, shapes.prefill))
    yield "steps of", _joined(f"{use.times} x {use.rows} rows x {_contexts(use)} tokens" for use in shapes.decode)


def _prefill(use: PrefillUse) -> str:
    behind = f" behind {use.cached}" if use.cached else ""
    return f"{use.times} x {use.rows} rows x {use.length} tokens{behind}"


def _contexts(use: DecodeUse) -> str:
    return str(use.context) if use.least_context == use.context else f"{use.least_context} to {use.context}"


def _joined(uses: Iterator[str]) -> str:
    return ", ".join(uses) or "none"
