"""The one shape of a plan that a batch is padded to. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from typing import TypeVar

from runtime.backend import DecodeShape, PrefillShape, ShapePlan, VisionShape
from runtime.budgets import Demand
from runtime.errors import UnplannedShape
from runtime.shapes.buckets import Buckets

Key = TypeVar("Key", bound=Hashable)


class PlannedShapes:
    """Finds shapes in a plan; the `Shapes` of a scheduler. Raises UnplannedShape for what no shape holds."""

    pads = True
    apart = False

    def __init__(self, plan: ShapePlan) -> None:
        whole = [shape for shape in plan.prefill if not shape.cached]
        resumed = [shape for shape in plan.prefill if shape.cached]
        self._lengths = Buckets(tuple(sorted({shape.length for shape in whole})))
        self._rows = _grouped((shape.length, shape.rows) for shape in whole)
        self._cached = _grouped((shape.length, shape.cached) for shape in resumed)
        self._resumed_rows = resumed[0].rows if resumed else 1
        self._decode_rows = Buckets(tuple(sorted({shape.rows for shape in plan.decode})))
        self._contexts = _grouped((shape.rows, shape.context) for shape in plan.decode)
        self._tiles = {shape.tiles: shape for shape in plan.vision}

    @property
    def resumed_rows(self) -> int:
        """How many prompts of which a part is held already may be computed together."""
        return self._resumed_rows

    def prefill_for(self, rows: int, longest: int, offset: int = 0) -> PrefillShape:
        """Return the shape of `rows` prompts.

        `longest` counts the tokens to compute in the row that has most of them, `offset` the tokens held already by
        the row that holds most.
        """
        length = self._lengths.holding(longest)
        if length is not None and offset == 0:
            padded = self._rows[length].holding(rows)
            if padded is not None:
                return PrefillShape(padded, length)
        elif length is not None and length in self._cached and rows <= self._resumed_rows:
            cached = self._cached[length].holding(offset)
            if cached is not None:
                return PrefillShape(self._resumed_rows, length, cached)
        held = f", up to {offset} tokens of them held already" if offset else ""
        raise UnplannedShape(f"no shape is planned for a prefill of {rows} rows of {longest} tokens{held}")

    def decode_for(self, rows: int, context: int) -> DecodeShape:
        """Return the shape of a step over the first `rows` slots, where a row comes to hold `context` tokens."""
        padded = self._decode_rows.holding(rows)
        held = None if padded is None else self._contexts[padded].holding(context)
        if padded is None or held is None:
            raise UnplannedShape(f"no shape is planned for a decode step of {rows} rows of {context} tokens")
        return DecodeShape(padded, held)

    def vision_for(self, tiles: int) -> VisionShape:
        """Return the shape of a picture."""
        if tiles not in self._tiles:
            raise UnplannedShape(f"no shape is planned for a picture of {tiles} tiles")
        return self._tiles[tiles]

    def fits(self, rows: int, longest: int) -> bool:
        """Tell whether `rows` whole prompts, the longest of so many tokens, can be computed together."""
        length = self._lengths.holding(longest)
        return length is not None and self._rows[length].holding(rows) is not None

    def demand(self, prompt_tokens: int, reply_tokens: int) -> Demand:
        """Return what a request costs: its prompt is padded, but its row never holds the padding.

        A prompt that is longer than every shape keeps its length, so that whoever admits requests refuses it.
        """
        length = self._lengths.holding(prompt_tokens)
        return Demand(prompt_tokens if length is None else length, prompt_tokens + reply_tokens)


def _grouped(pairs: Iterable[tuple[Key, int]]) -> Mapping[Key, Buckets]:
    groups: defaultdict[Key, set[int]] = defaultdict(set)
    for key, size in pairs:
        groups[key].add(size)
    return {key: Buckets(tuple(sorted(sizes))) for key, sizes in groups.items()}
