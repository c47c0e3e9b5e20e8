"""Rows of a step -> the batch a backend gets, padded to a planned shape where shapes are planned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Protocol

import torch

from runtime.backend import DecodeBatch, DecodeShape, Limits, PrefillBatch, PrefillShape
from runtime.parts import images_within, next_part
from runtime.row import Row

NO_SLOT: Final = -1


class ShapeLookup(Protocol):
    """Finds the one shape of a batch."""

    @property
    def resumed_rows(self) -> int:
        """How many prompts may be continued together."""
        ...

    @property
    def pads(self) -> bool:
        """Whether each row of a prefill is computed to the length of its shape."""
        ...

    @property
    def apart(self) -> bool:
        """Whether each row decodes by itself."""
        ...

    def prefill_for(self, rows: int, longest: int, offset: int = 0) -> PrefillShape: ...

    def decode_for(self, rows: int, context: int) -> DecodeShape: ...


class AnyShapes:
    """For a backend that takes any shape: prefills come as they are, decode steps over all slots."""

    pads = False

    def __init__(self, limits: Limits, apart: bool = False) -> None:
        """`apart` for replies that do not depend on neighbours: a backend that takes any shape computes active rows
        only, and kernels may add up in another order for other numbers of them."""
        self.apart = apart
        self._decode = DecodeShape(limits.rows, limits.context)
        self.resumed_rows = limits.prefill_rows

    def prefill_for(self, rows: int, longest: int, offset: int = 0) -> PrefillShape:
        return PrefillShape(rows, longest, offset)

    def decode_for(self, rows: int, context: int) -> DecodeShape:  # noqa: ARG002
        return self._decode


def prefill_batch(rows: Sequence[Row], shapes: ShapeLookup) -> PrefillBatch:
    """Return the batch that computes the next part of each row's prompt."""
    parts = [row.part for row in rows]
    lengths = [part.stop - part.start for part in parts]
    shape = shapes.prefill_for(len(rows), max(lengths), max(part.start for part in parts))
    padding = shape.rows - len(rows)
    tokens = torch.zeros(shape.rows, shape.length, dtype=torch.int64)
    for index, (row, part) in enumerate(zip(rows, parts, strict=True)):
        tokens[index, : lengths[index]] = torch.tensor(row.prompt[part])
    return PrefillBatch(
        shape=shape,
        tokens=tokens,
        lengths=torch.tensor(lengths + [0] * padding),
        offsets=torch.tensor([part.start for part in parts] + [0] * padding),
        slots=torch.tensor([row.slot for row in rows] + [NO_SLOT] * padding),
        images=(*(images_within(row.images, row.pictures, row.part) for row in rows), *[None] * padding),
        prompt_logprobs=any(row.prompt_logprobs for row in rows),
    )


def computed_length(row: Row, shape: PrefillShape, shapes: ShapeLookup) -> int:
    """Return as how many tokens a row's part is computed in a prefill of this shape."""
    tokens: int = row.part.stop - row.part.start
    return shape.length if shapes.pads else tokens


def computed_size(rows: Sequence[Row], shape: DecodeShape, shapes: ShapeLookup) -> DecodeShape:
    """Return in which size a decode step is computed: a backend that takes any shape computes its active rows only."""
    return shape if shapes.pads else DecodeShape(len(rows), max(row.position for row in rows) + 1)


def bucket_of(length: int, pictures: Sequence[slice], longest_part: int | None, shapes: ShapeLookup) -> int:
    """Return as how many tokens a prompt is computed alone and from its start, in parts of at most `longest_part`.

    Raises UnplannedShape for a prompt that no shape holds.
    """
    computed = stop = 0
    while stop < length:
        part = next_part(stop, length, longest_part, pictures)
        computed += shapes.prefill_for(1, part.stop - part.start, part.start).length
        stop = part.stop
    return computed


def alike(rows: Sequence[Row], shapes: ShapeLookup) -> Iterator[list[Row]]:
    """Split rows into groups that are computed together: those that begin, and those that continue a few at a time."""
    begin = [row for row in rows if not row.part.start]
    rest = [row for row in rows if row.part.start]
    if begin:
        yield begin
    for start in range(0, len(rest), shapes.resumed_rows):
        yield rest[start : start + shapes.resumed_rows]


def decoded_together(rows: Sequence[Row], shapes: ShapeLookup) -> Iterator[Sequence[Row]]:
    """Split rows into those of each decode batch."""
    if not shapes.apart:
        yield rows
        return
    for row in rows:
        yield [row]


def decode_batch(rows: Sequence[Row], shapes: ShapeLookup) -> DecodeBatch:
    """Return the batch that appends each row's newest token."""
    shape = shapes.decode_for(max(row.slot for row in rows) + 1, max(row.position for row in rows) + 1)
    width = shape.rows
    tokens, positions, active = [0] * width, [0] * width, [False] * width
    for row in rows:
        tokens[row.slot], positions[row.slot], active[row.slot] = row.generated[-1], row.position, True
    return DecodeBatch(
        shape=shape, tokens=torch.tensor(tokens), positions=torch.tensor(positions), active=torch.tensor(active)
    )
