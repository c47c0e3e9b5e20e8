"""The warm-up of a static backend, and what it does when memory runs out."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from runtime.backend import (
    Capacity,
    DecodeShape,
    Limits,
    ModelSpec,
    PrefillShape,
    ShapePlan,
    VisionShape,
    WarmupProgress,
)
from runtime.budgets import Budgets
from runtime.errors import BackendRefused
from runtime.shapes import Ladders, plan_shapes
from runtime.static import backend as backend_module
from runtime.static.device import Host, Memory
from runtime.static.graphs import PlainRunner
from runtime.static.kv import CacheGeometry, KvCache
from runtime.static.picture_buffer import PictureBuffer
from runtime.static.warmup import fewer_slots, largest_first, planned_slots
from support.agreement import NOISE
from support.recorded import RecordedRunner
from support.static import agreement, ignore, loaded, plan_of


def test_the_warmup_runs_every_shape_twice_and_tells(small: ModelSpec) -> None:
    """The first time records it; each shape is told once, with its place among all."""
    plan = plan_of(small)
    runner = RecordedRunner()
    told: list[WarmupProgress] = []
    loaded(small, runner=runner).warmup(plan, told.append)
    shapes = [*plan.prefill, *plan.vision, *plan.decode]
    assert sorted(map(repr, (each.shape for each in told))) == sorted(map(repr, shapes))
    assert [each.done for each in told] == list(range(1, len(shapes) + 1))
    assert {each.total for each in told} == {len(shapes)}
    assert all(each.seconds > 0 for each in told)
    assert runner.replays == len(runner.tapes) == len(shapes) + len(plan.vision)


def test_the_largest_come_first() -> None:
    """Of each kind, prefills before pictures before decode steps; and none that needs more slots than there are."""
    prefills = (PrefillShape(1, 64), PrefillShape(2, 64), PrefillShape(1, 64, 128))
    plan = ShapePlan(
        prefill=prefills,
        decode=(DecodeShape(2, 64), DecodeShape(4, 64), DecodeShape(2, 256), DecodeShape(8, 64)),
        vision=(VisionShape(3), VisionShape(5)),
    )
    assert largest_first(plan, slots=4) == [
        PrefillShape(1, 64, 128),
        PrefillShape(2, 64),
        PrefillShape(1, 64),
        VisionShape(5),
        VisionShape(3),
        DecodeShape(2, 256),
        DecodeShape(4, 64),
        DecodeShape(2, 64),
    ]


def test_slots_are_rows_of_a_shape() -> None:
    """So that a step of all of them has one."""
    plan = ShapePlan(decode=tuple(DecodeShape(rows, 64) for rows in (8, 16, 24, 56, 64)))
    assert [planned_slots(plan, slots) for slots in (64, 63, 16, 15, 7)] == [64, 56, 16, 8, 0]
    assert planned_slots(ShapePlan(), 5) == 5
    assert [fewer_slots(plan, slots) for slots in (64, 56, 24, 16, 8)] == [56, 24, 16, 8, 0]


class Small(Host):
    """A device of little memory, of which caches and graphs take."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.taken = 0

    def memory(self) -> Memory | None:
        return Memory(self.total - self.taken, self.total)

    def ran_out(self, error: RuntimeError) -> bool:
        return "no room" in str(error)

    def take(self, size: int) -> None:
        if self.taken + size > self.total:
            raise RuntimeError("no room")
        self.taken += size

    def give(self, size: int) -> None:
        self.taken -= size


class Hungry(PlainRunner):
    """A runner whose graphs keep memory until they are forgotten."""

    def __init__(self, device: Small, size: Callable[[object], int]) -> None:
        super().__init__(device)
        self.small = device
        self.size = size
        self.held = 0

    def warm(self, key: Any, function: Any, inputs: Any) -> None:
        size = self.size(key)
        self.small.take(size)
        self.held += size
        super().warm(key, function, inputs)

    def clear(self) -> None:
        self.small.give(self.held)
        self.held = 0
        super().clear()


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Callable[[Small], None]:
    """Make caches take the memory of a device while they live."""

    def count(device: Small) -> None:
        class Counted(KvCache):
            def __init__(self, geometry: CacheGeometry, slots: int, place: torch.device) -> None:
                size = slots * geometry.row_bytes
                device.take(size)
                weakref.finalize(self, device.give, size)
                super().__init__(geometry, slots, place)

        monkeypatch.setattr(backend_module, "KvCache", Counted)

    return count


ROWS = Limits(rows=16, context=128, prefill_rows=2, prefill_tokens=100)


def row_bytes(model: ModelSpec) -> int:
    return CacheGeometry.of(model, ROWS.context, torch.float32).row_bytes


def test_out_of_memory_steps_back(
    small: ModelSpec, counted: Callable[[Small], None], caplog: pytest.LogCaptureFixture
) -> None:
    """Graphs and cache are given back, fewer slots are tried with the arithmetic told, and what is left agrees."""
    size = row_bytes(small)
    device = Small(total=16 * size + 3 * size)  # all slots fit, but graphs take as much as 5
    counted(device)
    taken = 5 * size
    runner = Hungry(device, lambda key: taken if key == DecodeShape(4, 128) else 0)
    plan = plan_shapes(small, ROWS, Budgets.of(ROWS), Ladders.linear(128, 1, 4), resumes=True)
    backend = loaded(small, limits=ROWS, device=device, runner=runner)
    assert backend.capacity() == Capacity(16, 128, resumes=True)
    told: list[WarmupProgress] = []
    with caplog.at_level(logging.WARNING):
        backend.warmup(plan, told.append)
    assert backend.capacity() == Capacity(12, 128, resumes=True)
    assert device.taken == 12 * size + taken
    assert told[-1].done == told[-1].total
    assert sum(each.done == 1 for each in told) == 2  # once more from the first shape
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("DecodeShape(rows=4, context=128) does not fit beside 16 rows x 128 tokens x 512 bytes")
    assert "going on with 12 rows x 128 tokens x 512 bytes" in line
    assert "are free" in line
    limits = Limits(12, ROWS.context, ROWS.prefill_rows, ROWS.prefill_tokens)
    traffic = agreement(backend, small, 0, plan, limits)
    traffic.run(steps=60)
    assert max(traffic.differences) < NOISE
    assert backend.stats()["unknown_shapes"] == 0


def test_a_device_that_must_not_run_out_steps_back_before(small: ModelSpec, counted: Callable[[Small], None]) -> None:
    """It keeps a reserve out of what it calls free; when nothing is free any more, that is enough."""
    size = row_bytes(small)
    device = Small(total=16 * size + 4 * size)
    counted(device)
    runner = Hungry(device, lambda key: 4 * size if key == DecodeShape(4, 128) else 0)
    plan = plan_shapes(small, ROWS, Budgets.of(ROWS), Ladders.linear(128, 1, 4))
    backend = loaded(small, limits=ROWS, device=device, runner=runner)
    backend.warmup(plan, ignore)
    assert backend.capacity() == Capacity(12, 128, resumes=True)


def test_the_room_for_pictures_is_part_of_it(
    small: ModelSpec,
    counted: Callable[[Small], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is taken after the slots are, and fewer of them make room for it too."""
    size = row_bytes(small)
    device = Small(total=16 * size)
    counted(device)
    right = PictureBuffer.reserve

    def reserve(self: PictureBuffer, tokens: int) -> None:
        device.take(2 * size)
        right(self, tokens)

    monkeypatch.setattr(PictureBuffer, "reserve", reserve)
    plan = plan_shapes(small, ROWS, Budgets.of(ROWS), Ladders.linear(128, 1, 4))
    backend = loaded(small, limits=ROWS, device=device)
    with caplog.at_level(logging.WARNING):
        backend.warmup(plan, ignore)
    assert backend.capacity() == Capacity(12, 128, resumes=True)
    assert "a buffer for the pictures of 200 tokens does not fit beside 16 rows" in caplog.text


def test_what_never_fits_is_refused(small: ModelSpec, counted: Callable[[Small], None]) -> None:
    """Down to the fewest rows that have a shape; the remedy is named."""
    device = Small(total=16 * row_bytes(small))
    counted(device)
    runner = Hungry(device, lambda key: device.total)
    plan = plan_shapes(small, ROWS, Budgets.of(ROWS), Ladders.linear(128, 1, 4))
    with pytest.raises(BackendRefused, match="4 rows of 128 tokens; lower --max-total-tokens"):
        loaded(small, limits=ROWS, device=device, runner=runner).warmup(plan, ignore)


def test_slots_that_do_not_fit_are_not_reserved(
    small: ModelSpec, counted: Callable[[Small], None], caplog: pytest.LogCaptureFixture
) -> None:
    """As many as do are, and of those as many as have a shape."""
    device = Small(total=11 * row_bytes(small) + 1)
    counted(device)
    plan = plan_shapes(small, ROWS, Budgets.of(ROWS), Ladders.linear(128, 1, 4))
    with caplog.at_level(logging.WARNING):
        backend = loaded(small, limits=ROWS, device=device)
    assert "16 rows x 128 tokens x 512 bytes" in caplog.text
    assert backend.capacity() == Capacity(11, 128, resumes=True)
    backend.warmup(plan, ignore)
    assert backend.capacity() == Capacity(8, 128, resumes=True)


def test_a_share_of_the_memory_is_left_for_graphs(small: ModelSpec, caplog: pytest.LogCaptureFixture) -> None:
    """Of what is free beside the weights; the arithmetic tells."""
    device = Small(total=10 * row_bytes(small))
    with caplog.at_level(logging.WARNING):
        backend = loaded(small, limits=ROWS, device=device, graph_share=0.25)
    assert backend.capacity().rows == 7
    assert "GiB are free, 25% of it for graphs)" in caplog.text


def test_a_device_too_small_for_one_row_is_refused(small: ModelSpec) -> None:
    """Before anything is reserved."""
    with pytest.raises(BackendRefused, match=r"1 rows x 128 tokens x 512 bytes = .*lower --max-total-tokens"):
        loaded(small, limits=ROWS, device=Small(total=100))


def test_other_errors_of_the_warmup_are_not_taken_for_a_lack_of_memory(small: ModelSpec) -> None:
    """They end it."""

    def fail(key: object) -> int:
        raise RuntimeError(f"a bug in {key}")

    device = Small(total=2**30)
    backend = loaded(small, limits=ROWS, device=device, runner=Hungry(device, fail))
    with pytest.raises(RuntimeError, match="a bug in"):
        backend.warmup(plan_of(small, limits=ROWS), ignore)
