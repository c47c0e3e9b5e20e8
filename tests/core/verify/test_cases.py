"""The cases: what they hold, that they fit, and the batches they become."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from runtime.backend import DecodeShape, Limits, ModelSpec, PrefillShape, ShapePlan
from runtime.batches import AnyShapes
from runtime.errors import StartupError
from runtime.geometry import feature_count
from runtime.shapes import PlannedShapes
from runtime.verify.cases import MEANINGS, Case, LeftOut, cases_of, names_of
from runtime.verify.walk import DecodeStep, End, Move, Prefill, Tokens, shapes_met, walk
from support.geometries import LLAVA
from support.verifying import LIMITS, plan_of

NAMES = tuple(MEANINGS)


def cases(model: ModelSpec, limits: Limits = LIMITS, longest: int = 240, seed: int = 0) -> dict[str, Case]:
    made = cases_of(model, limits, longest, seed, NAMES)
    return {case.name: case for case in made if isinstance(case, Case)}


def moves_of(case: Case, model: ModelSpec, limits: Limits, resumes: bool = True) -> list[Move]:
    """With as many tokens as there are slots, each the number of the move."""
    found: list[Move] = []

    def take(move: Move) -> Tokens:
        found.append(move)
        return [100 + len(found)] * len(move.slots)

    walk(case, AnyShapes(limits), resumes, take)
    return found


def test_all_cases_are_possible(model: ModelSpec) -> None:
    """With limits that are not tiny."""
    assert tuple(cases(model)) == NAMES


def test_text_models_see_no_pictures(text_model: ModelSpec) -> None:
    """The cases that are about pictures are left out, and the others have none."""
    made = cases_of(text_model, LIMITS, 240, 0, NAMES)
    left_out = {case.name: case.reason for case in made if isinstance(case, LeftOut)}
    assert left_out == dict.fromkeys(("one-picture", "two-pictures", "aspect-ratios"), "the model sees no pictures")
    assert all(prompt.images is None for case in made if isinstance(case, Case) for prompt in case.prompts)


def test_same_seed_same_prompts(model: ModelSpec) -> None:
    """Each process makes them anew."""
    first, second, other = (cases(model, seed=seed)["two-pictures"].prompts[0] for seed in (3, 3, 4))
    assert first.tokens == second.tokens
    assert first.tokens != other.tokens
    assert first.images is not None
    assert second.images is not None
    assert torch.equal(first.images.tiles, second.images.tiles)
    assert first.images.digests == second.images.digests


def test_placeholders_are_where_pictures_are(model: ModelSpec) -> None:
    """As many as features, and no word is one."""
    assert model.images is not None
    for case in cases(model).values():
        for prompt in case.prompts:
            sizes = () if prompt.images is None else prompt.images.sizes
            held = {at for picture in prompt.pictures for at in range(picture.start, picture.stop)}
            assert [each.stop - each.start for each in prompt.pictures] == [
                feature_count(size, model.images) for size in sizes
            ]
            assert {at for at, token in enumerate(prompt.tokens) if token == model.image_token_id} == held


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 5),
    prefill_rows=st.integers(1, 4),
    context=st.integers(14, 300),
    prompt=st.integers(3, 280),
    resumes=st.booleans(),
)
def test_any_limits_are_kept(
    model: ModelSpec, rows: int, prefill_rows: int, context: int, prompt: int, resumes: bool
) -> None:
    """Slots, context, rows of a prefill and the length of prompts."""
    limits = Limits(rows, context, min(rows, prefill_rows), min(prompt, context - 1))
    for case in cases(model, limits, limits.prefill_tokens).values():
        held: set[int] = set()
        for move in moves_of(case, model, limits, resumes):
            if isinstance(move, End):
                held -= set(move.slots)
                continue
            assert all(0 <= slot < rows for slot in move.slots)
            if isinstance(move, Prefill):
                assert not held & set(move.slots) or move.batch.offsets.any()
                assert len(move.slots) <= limits.prefill_rows
                assert int((move.batch.offsets + move.batch.lengths).max()) <= limits.prefill_tokens
            else:
                assert int(move.batch.positions.max()) < context
            held |= set(move.slots)
        assert not held


def test_a_picture_that_is_too_long_is_told(model: ModelSpec) -> None:
    """With the numbers and the flag."""
    (left_out,) = cases_of(model, LIMITS, 40, 0, ("one-picture",))
    assert isinstance(left_out, LeftOut)
    assert left_out.reason.startswith("its pictures take ")
    assert "has room for 40; raise --max-input-tokens" in left_out.reason


def test_late_joins_need_two_rows(model: ModelSpec) -> None:
    """There is nobody to join otherwise."""
    limits = replace(LIMITS, rows=1, prefill_rows=1)
    (left_out,) = cases_of(model, limits, 240, 0, ("late-joins",))
    assert isinstance(left_out, LeftOut)
    assert "--max-batch-size" in left_out.reason


def test_real_geometry_fits_in_the_usual_limits() -> None:
    """LLaVA-NeXT's pictures in 4096 tokens."""
    limits = Limits(rows=8, context=4096, prefill_rows=4, prefill_tokens=4095)
    made = cases_of(LLAVA, limits, 4095, 0, ("one-picture", "aspect-ratios"))
    assert all(isinstance(case, Case) for case in made)
    (_, ratios) = made
    assert isinstance(ratios, Case)
    assert len(ratios.prompts) == 5


def test_names_are_in_order_and_checked() -> None:
    """As the cases are run; none means all."""
    assert names_of(()) == NAMES
    assert names_of(("longest", "text")) == ("text", "longest")
    with pytest.raises(StartupError, match="there is no case 'txt'; there are text, one-picture"):
        names_of(("txt",))


def test_tokens_go_on_from_what_is_told(model: ModelSpec) -> None:
    """Each step appends what the move before it returned, one position further."""
    joined, *steps = (move for move in moves_of(cases(model)["text"], model, LIMITS) if not isinstance(move, End))
    assert isinstance(joined, Prefill)
    length = int(joined.batch.lengths[0])
    for number, step in enumerate(steps, start=1):
        assert isinstance(step, DecodeStep)
        assert int(step.batch.tokens[0]) == 100 + number
        assert int(step.batch.positions[0]) == length + number - 1
        assert step.batch.active.tolist() == [True, False, False, False]


def test_parts_make_up_the_prompt(model: ModelSpec) -> None:
    """Cut nowhere within a picture; only the last is answered."""
    case = cases(model)["chunked"]
    parts = [move for move in moves_of(case, model, LIMITS) if isinstance(move, Prefill)]
    assert sum(part.is_last for part in parts) == len(case.prompts) < len(parts)
    for prompt in case.prompts:
        tokens: list[int] = []
        while len(tokens) < len(prompt.tokens):
            part = parts.pop(0)
            assert int(part.batch.offsets[0]) == len(tokens)
            assert not any(picture.start < len(tokens) < picture.stop for picture in prompt.pictures)
            tokens += part.batch.tokens[0, : int(part.batch.lengths[0])].tolist()
        assert tuple(tokens) == prompt.tokens
    whole = [move for move in moves_of(case, model, LIMITS, resumes=False) if isinstance(move, Prefill)]
    assert [move.batch.offsets.any() for move in whole] == [False] * len(case.prompts)


def test_batches_are_padded_to_the_plan(model: ModelSpec) -> None:
    """Every shape is one of it, and rows of padding are marked."""
    plan = plan_of(model)
    for case in cases(model).values():
        met = shapes_met(case, PlannedShapes(plan), resumes=True)
        assert set(met.prefill) <= set(plan.prefill)
        assert set(met.decode) <= set(plan.decode)
        assert set(met.vision) <= set(plan.vision)
    met = shapes_met(cases(model)["text"], PlannedShapes(plan), resumes=True)
    assert met == ShapePlan((PrefillShape(2, 64),), (DecodeShape(3, 64),), ())
