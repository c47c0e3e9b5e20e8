"""How far a warm-up is and how long it will take, on a clock of the test's own."""

from __future__ import annotations

import pytest
from runtime.backend import DecodeShape, PrefillShape, Shape, VisionShape, WarmupProgress
from runtime.warming import LATEST, Stage, Warming, shape_text

SHAPE = PrefillShape(4, 4096)


class Clock:
    """Goes on when it is told."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def advanced(warming: Warming, clock: Clock, done: int, total: int, seconds: float) -> Stage:
    """The stage after one more shape, which took so long; what its backend says of that is not believed."""
    clock.now += seconds
    return warming.advance(WarmupProgress(done, total, SHAPE, 1e9))


def test_time_left_follows_the_shapes_that_are_done() -> None:
    """Two shapes of 4 and 2 s have a mean of 3, and 3 are left."""
    clock = Clock()
    warming = Warming(5, clock)
    assert warming.stage == Stage(0, 5, 0.0, None, None)
    assert advanced(warming, clock, 1, 5, 4.0) == Stage(1, 5, 4.0, SHAPE, 16.0)
    assert advanced(warming, clock, 2, 5, 2.0) == Stage(2, 5, 6.0, SHAPE, 9.0)
    assert [advanced(warming, clock, done, 5, 3.0).seconds_left for done in (3, 4, 5)] == [6.0, 3.0, 0.0]


def test_only_the_latest_shapes_count() -> None:
    """The first are the largest: 20 of 100 s are forgotten after 10 of 1 s."""
    clock = Clock()
    warming = Warming(40, clock)
    for done in range(1, 21):
        advanced(warming, clock, done, 40, 100.0)
    for done in range(21, 21 + LATEST):
        stage = advanced(warming, clock, done, 40, 1.0)
    assert (stage.done, stage.seconds_left) == (30, 10.0)


def test_a_warm_up_that_begins_again() -> None:
    """With fewer shapes: the time goes on, and what is left is more than before."""
    clock = Clock()
    warming = Warming(3, clock)
    advanced(warming, clock, 1, 3, 1.0)
    advanced(warming, clock, 2, 3, 1.0)
    assert advanced(warming, clock, 1, 2, 1.0) == Stage(1, 2, 3.0, SHAPE, 1.0)


@pytest.mark.parametrize(
    ("stage", "told"),
    [
        (Stage(0, 155), "0 of 155 shapes"),
        (Stage(12, 155, 9.0, SHAPE, 171.0), "12 of 155 shapes, prefill 4 x 4096 done, about 3 min left"),
        (Stage(1, 2, 9.0, SHAPE, 0.2), "1 of 2 shapes, prefill 4 x 4096 done, about 1 s left"),
        (Stage(1, 2, 9.0, SHAPE, 89.5), "1 of 2 shapes, prefill 4 x 4096 done, about 90 s left"),
        (Stage(1, 2, 9.0, SHAPE, 9000.0), "1 of 2 shapes, prefill 4 x 4096 done, about 2.5 h left"),
        (Stage(2, 2, 9.0, SHAPE, 0.0), "2 of 2 shapes, prefill 4 x 4096 done"),
    ],
)
def test_stage_in_words(stage: Stage, told: str) -> None:
    """The last shape, and about how long it will take."""
    assert str(stage) == told


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        (SHAPE, "prefill 4 x 4096"),
        (PrefillShape(1, 128, 1024), "prefill 1 x 128 after 1024"),
        (DecodeShape(8, 2048), "decode 8 x 2048"),
        (VisionShape(5), "picture of 5 tiles"),
    ],
)
def test_shapes_in_words(shape: Shape, told: str) -> None:
    """Rows x tokens."""
    assert shape_text(shape) == told
