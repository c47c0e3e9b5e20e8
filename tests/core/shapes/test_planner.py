"""Which shapes are planned: every one that a batch needs, and no other."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime.backend import DecodeShape, Limits, PrefillShape, VisionShape
from runtime.budgets import Budgets
from runtime.errors import StartupError
from runtime.shapes import Ladders, PlannedShapes, plan_shapes
from runtime.shapes.planner import MAX_SHAPES
from support.geometries import DEMO_IMAGES, LLAVA
from support.plans import GUIDE_BUDGETS, GUIDE_LIMITS, GUIDE_PLAN

TEXT = replace(LLAVA, images=None, vision=None, image_token_id=None)
GUIDE_LENGTHS = [128 * multiple for multiple in range(1, 33)]


def test_plan_of_the_guide() -> None:
    """By hand: lengths by 128 up to 4096 x 1 to 4 rows, all within 16384 tokens; six contexts x 1 to 4 rows."""
    assert GUIDE_PLAN.prefill == tuple(PrefillShape(rows, length) for length in GUIDE_LENGTHS for rows in (1, 2, 3, 4))
    contexts = (256, 512, 1024, 2048, 4096, 8192)
    assert GUIDE_PLAN.decode == tuple(DecodeShape(rows, context) for rows in (1, 2, 3, 4) for context in contexts)
    assert GUIDE_PLAN.vision == (VisionShape(3), VisionShape(4), VisionShape(5))


def test_capacity_of_the_guide() -> None:
    """16384 / 4096 = 4 prompts, 32768 / 8192 = 4 sequences; TGI's shard made it 16, whatever the flags said."""
    assert PrefillShape(4, 4096) in GUIDE_PLAN.prefill
    assert DecodeShape(4, 8192) in GUIDE_PLAN.decode
    assert max(shape.rows for shape in (*GUIDE_PLAN.prefill, *GUIDE_PLAN.decode)) == 4


def test_a_short_text_gets_a_short_bucket() -> None:
    """128 for 10 tokens, where TGI's shard had nothing below BASE_IMAGE_TOKENS, 2048."""
    assert PlannedShapes(GUIDE_PLAN).prefill_for(1, 10) == PrefillShape(1, 128)


def test_lengths_of_tgi() -> None:
    """Its warm-up list with PAD_SEQUENCE_TO_MULTIPLE_OF=128 grows by doubled steps from 2048; ours has all of it.

    We differ in what lies between, above all below 2048, and in the rows: every number up to 4, not 1, 2, 4 and for
    decode 8 and 16, which the guide's flags leave no room for.
    """
    tgi = [2048, 2176, 2432, 2944, 3968, 4096]
    assert set(tgi) < {shape.length for shape in GUIDE_PLAN.prefill}
    assert {1, 2, 4} < {shape.rows for shape in GUIDE_PLAN.prefill}


def test_default_buckets() -> None:
    """PREFILL_BATCH_BUCKET_SIZE=4 and BATCH_BUCKET_SIZE=8 exceed the limits of the guide, so the limit is all."""
    plan = plan_shapes(LLAVA, GUIDE_LIMITS, GUIDE_BUDGETS, Ladders.linear(128, 4, 8))
    assert plan.prefill == tuple(PrefillShape(4, length) for length in GUIDE_LENGTHS)
    assert {shape.rows for shape in plan.decode} == {4}


def test_exponential() -> None:
    """By hand: each length at least a quarter more than the one before, in multiples of 128; rows double."""
    plan = plan_shapes(LLAVA, GUIDE_LIMITS, GUIDE_BUDGETS, Ladders.exponential(128, 1, 1))
    lengths = [128, 256, 384, 512, 640, 896, 1152, 1536, 1920, 2432, 3072, 3840, 4096]
    assert plan.prefill == tuple(PrefillShape(rows, length) for length in lengths for rows in (1, 2, 4))
    assert {shape.rows for shape in plan.decode} == {1, 2, 4}


def test_rows_fit_the_budget_at_each_length() -> None:
    """300 tokens: 3 rows of 100, and then 1 of 200; a bucket of 4 does not keep a prompt out."""
    plan = plan_shapes(TEXT, Limits(8, 1000, 8, 200), Budgets(300, 8000), Ladders.linear(100, 4, 8))
    assert plan.prefill == (PrefillShape(3, 100), PrefillShape(1, 200))


def test_resumed_prompts() -> None:
    """By hand, rows of one: 300 tokens at most, in 1 to 100, 101 to 200 and 201 to 299, beside the same held already.

    The rest and the part held are one prompt, so 201 tokens on 101 are too many.
    """
    ladders = Ladders.linear(100, 1, 1)
    plan = plan_shapes(TEXT, Limits(2, 1000, 2, 300), Budgets(600, 2000), ladders, resumes=True)
    whole = plan_shapes(TEXT, Limits(2, 1000, 2, 300), Budgets(600, 2000), ladders)
    assert plan.prefill[: len(whole.prefill)] == whole.prefill
    assert plan.prefill[len(whole.prefill) :] == (
        *(PrefillShape(1, 100, cached) for cached in (100, 200, 300)),
        *(PrefillShape(1, 200, cached) for cached in (100, 200)),
        PrefillShape(1, 300, 100),
    )


def test_pictures_that_no_prompt_can_hold() -> None:
    """The least picture of 4 tiles has 722 tokens, of 5 it has 1752."""
    for longest, tiles in ((647, ()), (648, (3,)), (722, (3, 4)), (1751, (3, 4)), (1752, (3, 4, 5))):
        plan = plan_shapes(LLAVA, Limits(1, 2000, 1, longest), Budgets(2000, 2000), Ladders.linear(128, 1, 1))
        assert plan.vision == tuple(map(VisionShape, tiles))


def test_a_text_model_has_no_tower() -> None:
    """And the same shapes otherwise."""
    plan = plan_shapes(TEXT, GUIDE_LIMITS, GUIDE_BUDGETS, Ladders.linear(128, 1, 1))
    assert plan == replace(GUIDE_PLAN, vision=())


def test_too_many_shapes() -> None:
    """One line that names what to change, before the list fills the memory."""
    limits = Limits(4000, 4000, 4000, 3999)
    with pytest.raises(StartupError, match=f"more than {MAX_SHAPES} shapes; choose --bucket-strategy exponential"):
        plan_shapes(TEXT, limits, Budgets.of(limits), Ladders.linear(1, 1, 1))


@dataclass(frozen=True, slots=True)
class Case:
    """Limits, budgets and linear bucket sizes."""

    limits: Limits
    budgets: Budgets
    pad: int
    prefill_step: int
    step: int

    @property
    def longest(self) -> int:
        """The longest prompt that leaves room for a token of reply."""
        return min(
            self.limits.prefill_tokens,
            self.limits.context - 1,
            self.budgets.prefill_tokens,
            self.budgets.total_tokens - 1,
        )

    def length(self, tokens: int) -> int:
        """The bucket of a prompt."""
        return min(up(tokens, self.pad), self.longest)

    def context(self, tokens: int, limit: int) -> int:
        """The bucket of what a row holds: of the five largest doublings of the pad below the most, or the limit."""
        doublings = [self.pad * 2**power for power in range(20) if self.pad * 2**power < limit - 1][-5:]
        return min((size for size in doublings if size >= tokens), default=limit)

    def most(self, tokens: int) -> int:
        """The prompts of this length that fit into one prefill."""
        return min(self.limits.prefill_rows, self.limits.rows, self.budgets.prefill_tokens // self.length(tokens))

    @property
    def resumed_rows(self) -> int:
        """The rows of a prefill that continues prompts: the fewest that one of the longest prompts is padded to."""
        return self.prefill_shape(1, self.longest).rows

    def prefill_shape(self, rows: int, tokens: int) -> PrefillShape:
        """What a batch is padded to."""
        return PrefillShape(min(up(rows, self.prefill_step), self.most(tokens)), self.length(tokens))


def up(number: int, step: int) -> int:
    """To the next multiple."""
    return math.ceil(number / step) * step


def prefills(case: Case) -> Iterator[tuple[int, int]]:
    """Every (rows, longest) that may be admitted: one row of the longest, the others of one token."""
    for tokens in range(1, case.longest + 1):
        for rows in range(1, case.most(tokens) + 1):
            if tokens + 1 + (rows - 1) * 2 <= case.budgets.total_tokens:
                yield rows, tokens


def resumed(case: Case) -> Iterator[tuple[int, int, int]]:
    """Every (rows, rest, held) with one row that has both, or two that have one each."""
    for rest in range(1, case.longest + 1):
        few = case.resumed_rows
        for held in range(1, case.longest):
            if rest + held <= case.longest:
                yield 1, rest, held
            elif few > 1 and rest + 1 + held + 2 <= case.budgets.total_tokens:
                yield 2, rest, held


def decodes(case: Case) -> Iterator[tuple[int, int]]:
    """Every (rows, tokens) where the last slot, or any before it, holds so many: a reply's last token is not held."""
    for rows in range(1, case.limits.rows + 1):
        for tokens in range(2, case.limits.context):
            if tokens + 1 + (rows - 1) * 2 <= case.budgets.total_tokens:
                yield rows, tokens


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Small ones, with many edges; a pad that does not divide the limits, budgets that bind."""
    rows, context = draw(st.integers(1, 9)), draw(st.integers(2, 48))
    limits = Limits(rows, context, draw(st.integers(1, 9)), draw(st.integers(1, context - 1)))
    prefill = draw(st.integers(limits.prefill_tokens, limits.prefill_tokens * 9))
    total = draw(st.integers(context, context * rows))
    steps = st.integers(1, 10)
    return Case(limits, Budgets(prefill, total), draw(st.integers(1, 20)), draw(steps), draw(steps))


@given(cases())
def test_the_plan_is_what_batches_need(case: Case) -> None:
    """Every batch has the shape that plain arithmetic gives it, and every shape has such a batch: its witness."""
    model = replace(LLAVA, images=DEMO_IMAGES)
    ladders = Ladders.linear(case.pad, case.prefill_step, case.step)
    plan = plan_shapes(model, case.limits, case.budgets, ladders, resumes=True)
    shapes = PlannedShapes(plan)
    needed: set[PrefillShape] = set()
    for rows, tokens in prefills(case):
        shape = case.prefill_shape(rows, tokens)
        assert shapes.prefill_for(rows, tokens) == shape
        assert shapes.fits(rows, tokens)
        assert shape.rows * shape.length <= case.budgets.prefill_tokens
        assert shape.length - tokens < case.pad
        assert shape.rows - rows < case.prefill_step
        needed.add(shape)
    for rows, rest, held in resumed(case):
        shape = PrefillShape(case.resumed_rows, case.length(rest), case.context(held, case.longest))
        assert rows <= shapes.resumed_rows == shape.rows
        assert shapes.prefill_for(rows, rest, held) == shape
        needed.add(shape)
    assert len(plan.prefill) == len(set(plan.prefill))
    assert set(plan.prefill) == needed

    steps: set[DecodeShape] = set()
    for rows, tokens in decodes(case):
        step = DecodeShape(min(up(rows, case.step), case.limits.rows), case.context(tokens, case.limits.context))
        assert shapes.decode_for(rows, tokens) == step
        steps.add(step)
    assert len(plan.decode) == len(set(plan.decode))
    assert set(plan.decode) == steps


def test_sweep_of_the_guide() -> None:
    """All 16,384 whole prefills and all 32,760 steps, each with the least shape that holds it; all shapes are met."""
    shapes = PlannedShapes(GUIDE_PLAN)
    met: set[PrefillShape | DecodeShape] = set()
    for rows in (1, 2, 3, 4):
        for tokens in range(1, 4097):
            prefill = shapes.prefill_for(rows, tokens)
            assert prefill == PrefillShape(rows, up(tokens, 128))
            met.add(prefill)
        for tokens in range(2, 8192):
            step = shapes.decode_for(rows, tokens)
            assert step.rows == rows
            assert tokens <= step.context < max(257, 2 * tokens)
            met.add(step)
    assert met == {*GUIDE_PLAN.prefill, *GUIDE_PLAN.decode}
