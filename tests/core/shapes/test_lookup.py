"""The one shape of a batch."""

from __future__ import annotations

import pytest
from runtime.backend import DecodeShape, PrefillShape, ShapePlan, VisionShape
from runtime.budgets import Budgets, Demand
from runtime.errors import ContextExceeded, UnplannedShape
from runtime.scheduler import PrefillStep, Scheduler
from runtime.shapes import PlannedShapes
from runtime.slots import SlotTable

SHAPES = PlannedShapes(
    ShapePlan(
        prefill=(
            *(PrefillShape(rows, 100) for rows in (2, 4, 5)),
            *(PrefillShape(rows, 200) for rows in (2, 3)),
            *(PrefillShape(2, 100, cached) for cached in (100, 200)),
            PrefillShape(2, 200, 100),
        ),
        decode=(DecodeShape(2, 128), DecodeShape(2, 256), DecodeShape(5, 128)),
        vision=(VisionShape(3), VisionShape(5)),
    )
)


@pytest.mark.parametrize(
    ("batch", "shape"),
    [
        ((1, 1), PrefillShape(2, 100)),
        ((2, 100), PrefillShape(2, 100)),
        ((3, 100), PrefillShape(4, 100)),
        ((5, 7), PrefillShape(5, 100)),
        ((3, 101), PrefillShape(3, 200)),
        ((1, 50, 1), PrefillShape(2, 100, 100)),
        ((2, 100, 101), PrefillShape(2, 100, 200)),
        ((1, 101, 100), PrefillShape(2, 200, 100)),
    ],
)
def test_prefills(batch: tuple[int, ...], shape: PrefillShape) -> None:
    """The least length, then the fewest rows of that length."""
    assert SHAPES.prefill_for(*batch) == shape


@pytest.mark.parametrize("batch", [(6, 1), (4, 101), (1, 201), (3, 50, 1), (1, 50, 201), (1, 150, 101)])
def test_prefills_without_a_shape(batch: tuple[int, ...]) -> None:
    """A typed error that names the batch; more rows of a longer shape do not make up for it."""
    with pytest.raises(UnplannedShape, match=f"^no shape is planned for a prefill of {batch[0]} rows of {batch[1]} "):
        SHAPES.prefill_for(*batch)
    assert len(batch) == 3 or not SHAPES.fits(*batch)


def test_decode_steps() -> None:
    """The fewest rows, then the least context of so many."""
    assert SHAPES.decode_for(1, 128) == DecodeShape(2, 128)
    assert SHAPES.decode_for(2, 129) == DecodeShape(2, 256)
    assert SHAPES.decode_for(3, 2) == DecodeShape(5, 128)
    for rows, context in ((6, 2), (3, 129), (1, 257)):
        with pytest.raises(UnplannedShape, match=f"a decode step of {rows} rows of {context} tokens"):
            SHAPES.decode_for(rows, context)


def test_pictures() -> None:
    """Are not padded: a picture has the tiles that it has."""
    assert SHAPES.vision_for(5) == VisionShape(5)
    with pytest.raises(UnplannedShape, match="a picture of 4 tiles"):
        SHAPES.vision_for(4)


def test_an_empty_plan_has_no_shape() -> None:
    """Whoever has none must not ask."""
    shapes = PlannedShapes(ShapePlan())
    assert not shapes.fits(1, 1)
    with pytest.raises(UnplannedShape):
        shapes.decode_for(1, 2)


def test_demand() -> None:
    """The prompt is charged as it is computed, the row with what it will hold."""
    assert SHAPES.demand(10, 5) == Demand(100, 15)
    assert SHAPES.demand(150, 500) == Demand(200, 650)
    assert SHAPES.demand(201, 1) == Demand(201, 202)


def test_a_scheduler_keeps_to_the_plan() -> None:
    """Four prompts of 150 tokens come in a prefill of 3, all that has a shape, and another of 1; 201 are refused."""
    scheduler: Scheduler[str] = Scheduler(SlotTable(5, 10_000), 5, Budgets(1000, 10_000), SHAPES)
    for key in "abcd":
        scheduler.add(key, SHAPES.demand(150, 1), 0.0)
    step = scheduler.next_step(0.0)
    assert isinstance(step, PrefillStep)
    assert [key for key, _ in step.placed] == ["a", "b", "c"]
    with pytest.raises(ContextExceeded, match="the prompt takes 201 tokens and no prefill is so long"):
        scheduler.add("e", SHAPES.demand(201, 1), 0.0)
