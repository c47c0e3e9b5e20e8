"""What is left of a plan for fewer rows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime.backend import DecodeShape, Limits, PrefillShape, ShapePlan, VisionShape
from runtime.budgets import Budgets
from runtime.shapes import Ladders, PlannedShapes, plan_shapes, subplan
from support.geometries import LLAVA
from support.plans import GUIDE_PLAN


def test_prefills_may_be_padded_and_decode_steps_not() -> None:
    """Of 2, 4 and 8 rows, three prompts are computed as 4; three slots decode as 2 at most."""
    plan = ShapePlan(
        prefill=(
            *(PrefillShape(rows, 64) for rows in (2, 4, 8)),
            PrefillShape(8, 32),
            PrefillShape(2, 64, 128),
        ),
        decode=tuple(DecodeShape(rows, 64) for rows in (2, 4, 8)),
        vision=(VisionShape(5),),
    )
    assert subplan(plan, 3) == ShapePlan(
        prefill=(PrefillShape(2, 64), PrefillShape(4, 64), PrefillShape(8, 32), PrefillShape(2, 64, 128)),
        decode=(DecodeShape(2, 64),),
        vision=(VisionShape(5),),
    )
    assert subplan(plan, 8) == plan


def test_plan_of_the_guide() -> None:
    """A row less costs its 32 prefills and 6 decode steps, and leaves just what would be planned for three rows."""
    limits = Limits(rows=3, context=8192, prefill_rows=4, prefill_tokens=4096)
    planned = plan_shapes(LLAVA, limits, Budgets(prefill_tokens=16384, total_tokens=32768), Ladders.linear(128, 1, 1))
    assert subplan(GUIDE_PLAN, 3) == planned


@given(
    st.tuples(*[st.integers(1, limit) for limit in (12, 300, 6)]),
    st.tuples(*[st.integers(1, limit) for limit in (100, 4, 5)]),
    st.integers(1, 12),
    st.booleans(),
)
def test_batches_keep_their_shapes(
    sizes: tuple[int, int, int], steps: tuple[int, int, int], left: int, resumes: bool
) -> None:
    """Whatever fewer rows there are; and no prefill is left that no batch of them is padded to."""
    rows, context, prefill_rows = sizes
    limits = Limits(rows, context + 2, prefill_rows, context)
    plan = plan_shapes(LLAVA, limits, Budgets.of(limits), Ladders.linear(*steps), resumes)
    part = subplan(plan, left)
    assert set(part.prefill) <= set(plan.prefill)
    assert part.decode == tuple(shape for shape in plan.decode if shape.rows <= left)
    before, after = PlannedShapes(plan), PlannedShapes(part)
    reached = set()
    for length in {shape.length for shape in plan.prefill if not shape.cached}:
        for count in range(1, min(left, prefill_rows) + 1):
            assert after.fits(count, length) == before.fits(count, length)
            if before.fits(count, length):
                assert after.prefill_for(count, length) == before.prefill_for(count, length)
                reached.add(before.prefill_for(count, length))
    if left <= prefill_rows:
        assert {shape for shape in part.prefill if not shape.cached} <= reached


@pytest.mark.parametrize("rows", [1, 7])
def test_no_plan(rows: int) -> None:
    """Of a backend that takes any shape."""
    assert subplan(ShapePlan(), rows) == ShapePlan()
