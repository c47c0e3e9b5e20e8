"""What the warm-up of a static backend runs, and with how many slots it goes on when the memory does not suffice."""

from __future__ import annotations

import torch

from runtime.backend import DecodeBatch, DecodeShape, PrefillBatch, PrefillShape, Shape, ShapePlan


def largest_first(plan: ShapePlan, slots: int) -> list[Shape]:
    """Return the shapes that occur with so many slots: what takes most memory first, so that a lack shows early."""
    return [
        *sorted(plan.prefill, key=lambda shape: (-shape.rows * (shape.length + shape.cached), -shape.length)),
        *sorted(plan.vision, key=lambda shape: -shape.tiles),
        *sorted(
            (shape for shape in plan.decode if shape.rows <= slots),
            key=lambda shape: (-shape.rows * shape.context, -shape.rows),
        ),
    ]


def planned_slots(plan: ShapePlan, slots: int) -> int:
    """Return the most slots, of those there are, that every decode step has a shape for; 0 when there are too few.

    Those are rows of a shape: with fewer, a step of all slots would be padded to more rows than the cache has.
    """
    rows = [shape.rows for shape in plan.decode]
    return max((count for count in rows if count <= slots), default=0) if rows else slots


def fewer_slots(plan: ShapePlan, slots: int) -> int:
    """Return how many slots to go on with: rows of a shape that are nearest to seven eighths; 0 for no fewer."""
    fewer = {shape.rows for shape in plan.decode if shape.rows < slots}
    return min(fewer, key=lambda rows: abs(8 * rows - 7 * slots), default=0)


def empty_prefill(shape: PrefillShape) -> PrefillBatch:
    """Return a batch of padding: it is computed as any other, and changes nothing."""
    return PrefillBatch(
        shape=shape,
        tokens=torch.zeros(shape.rows, shape.length, dtype=torch.int64),
        lengths=torch.zeros(shape.rows, dtype=torch.int64),
        offsets=torch.zeros(shape.rows, dtype=torch.int64),
        slots=torch.full((shape.rows,), -1),
        images=(None,) * shape.rows,
    )


def empty_decode(shape: DecodeShape) -> DecodeBatch:
    """Return a batch without an active row."""
    return DecodeBatch(
        shape=shape,
        tokens=torch.zeros(shape.rows, dtype=torch.int64),
        positions=torch.zeros(shape.rows, dtype=torch.int64),
        active=torch.zeros(shape.rows, dtype=torch.bool),
    )
