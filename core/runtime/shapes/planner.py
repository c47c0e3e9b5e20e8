"""From model, limits, budgets and buckets to every shape a backend will ever see. Pure.

A shape is in the plan when some batch that the server admits is padded to it, and only then: for each there is a
batch, and each batch has one shape (`runtime.shapes.lookup`). Which batches are admitted:

- A prefill computes up to `prefill_rows` prompts, padded within the prefill budget. The rows that fit depend on the
  length, so each length has row buckets of its own, of which the most rows that fit are the last.
- A decode step computes the slots from the first to the last that is in use, and any slot may be the last.
- Every row that holds a slot is charged with its prompt and its longest reply, within the budget of all rows.
- Pictures are encoded one at a time; a cut (`runtime.shapes.pictures`) is admitted when a prompt can hold it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final, TypeVar

from runtime.backend import DecodeShape, Limits, ModelSpec, PrefillShape, ShapePlan, VisionShape
from runtime.budgets import Budgets
from runtime.errors import StartupError
from runtime.shapes.buckets import Buckets, short_of, up_to
from runtime.shapes.ladders import Ladders
from runtime.shapes.pictures import cuts_of

MAX_SHAPES: Final = 16384
"""Of a kind; each takes a device seconds to prepare."""

LEAST_CHARGE: Final = 2
"""Of a row that holds a slot: a token of prompt and one of reply."""

Shape = TypeVar("Shape", PrefillShape, DecodeShape)


def plan_shapes(
    model: ModelSpec, limits: Limits, budgets: Budgets, ladders: Ladders, resumes: bool = False
) -> ShapePlan:
    """Return the plan of a backend of static shapes, ascending.

    `resumes` says whether a prompt may be computed in parts, or its beginning reused. Raises StartupError for a plan
    so large that no device would ever be ready.
    """
    longest = _longest_prompt(limits, budgets)
    lengths = up_to(ladders.lengths, longest)
    prefill = _prefills(lengths, limits, budgets, ladders)
    resumed = _resumed(lengths, limits, budgets, ladders) if resumes else ()
    return ShapePlan(
        prefill=(*_bounded(prefill), *_bounded(resumed)),
        decode=_bounded(_decodes(limits, budgets, ladders)),
        vision=_visions(model, longest),
    )


def _longest_prompt(limits: Limits, budgets: Budgets) -> int:
    """Return the tokens of the longest prompt that leaves room for one token of reply."""
    return min(limits.prefill_tokens, budgets.prefill_tokens, limits.context - 1, budgets.total_tokens - 1)


def _prefills(lengths: Buckets, limits: Limits, budgets: Budgets, ladders: Ladders) -> Iterator[PrefillShape]:
    """Yield the shapes of whole prompts: at least one is longer than the length before, the others may be short."""
    for shorter, length in lengths.steps():
        for fewer, rows in _rows_at(length, limits, budgets, ladders).steps():
            if fewer * LEAST_CHARGE + shorter + LEAST_CHARGE <= budgets.total_tokens:
                yield PrefillShape(rows, length)


def _resumed(lengths: Buckets, limits: Limits, budgets: Budgets, ladders: Ladders) -> Iterator[PrefillShape]:
    """Yield the shapes of prompts of which a part is held already, all of as few rows as prompts of any length have.

    The longest rest and the longest part held may be of one row, or of two.
    """
    if not lengths.sizes:
        return
    longest = lengths.sizes[-1]
    rows = _rows_at(longest, limits, budgets, ladders).sizes[0]
    for shorter, length in lengths.steps():
        for less, cached in short_of(ladders.contexts, longest).steps():
            of_one = (shorter + 1) + (less + 1) <= longest
            charges = (shorter + LEAST_CHARGE) + (less + 1 + LEAST_CHARGE)
            if of_one or (rows > 1 and charges <= budgets.total_tokens):
                yield PrefillShape(rows, length, cached)


def _rows_at(length: int, limits: Limits, budgets: Budgets, ladders: Ladders) -> Buckets:
    """Return the buckets of prompts of this length that may be computed together."""
    return up_to(ladders.prefill_rows, min(limits.prefill_rows, limits.rows, budgets.prefill_tokens // length))


def _decodes(limits: Limits, budgets: Budgets, ladders: Ladders) -> Iterator[DecodeShape]:
    """Yield the shapes of decode steps: one row holds more than the context before, the others may hold little.

    A step appends a token to a prompt of one at least, and the last token of a reply is never appended, so a row
    comes to hold from 2 tokens to one less than it is charged with.
    """
    contexts = Buckets(tuple(size for size in short_of(ladders.contexts, limits.context).sizes if size > 1))
    for fewer, rows in up_to(ladders.decode_rows, limits.rows).steps():
        for less, context in contexts.steps():
            charge = max(less, 1) + 2
            if charge <= limits.context and fewer * LEAST_CHARGE + charge <= budgets.total_tokens:
                yield DecodeShape(rows, context)


def _visions(model: ModelSpec, longest: int) -> tuple[VisionShape, ...]:
    if model.images is None:
        return ()
    return tuple(
        VisionShape(tiles) for tiles in sorted({c.tiles for c in cuts_of(model.images) if c.tokens <= longest})
    )


def _bounded(shapes: Iterable[Shape]) -> tuple[Shape, ...]:
    kept = tuple(islice(shapes, MAX_SHAPES + 1))
    if len(kept) > MAX_SHAPES:
        raise StartupError(
            f"the limits and buckets give more than {MAX_SHAPES} shapes; choose --bucket-strategy exponential, or "
            "raise --pad-sequence-to-multiple-of, --prefill-batch-bucket-size or --batch-bucket-size"
        )
    return kept
