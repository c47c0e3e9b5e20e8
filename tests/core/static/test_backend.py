"""The backend of static shapes against the oracle, recorded and replayed; and what it does when memory runs out."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterator
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
from runtime.errors import BackendError, BackendRefused, UnplannedShape
from runtime.model import read_model
from runtime.shapes import Ladders, PlannedShapes, plan_shapes
from runtime.static import backend as backend_module
from runtime.static import picture_buffer as buffer_module
from runtime.static import rectangle as rectangle_module
from runtime.static.backend import StaticBackend
from runtime.static.device import Device, Host, Memory
from runtime.static.graphs import Call, GraphRunner, Graphs, PlainRunner
from runtime.static.kernels import TorchStaticKernels
from runtime.static.kv import CacheGeometry, KvCache
from runtime.static.warmup import empty_decode, empty_prefill, fewer_slots, largest_first, planned_slots
from runtime_cpu_reference.backend import CpuReference
from support.agreement import GEOMETRIES, NOISE, Agreement
from support.checkpoints import DEMO, Checkpoint, write_checkpoint
from support.recorded import RecordedRunner

LIMITS = Limits(rows=4, context=384, prefill_rows=3, prefill_tokens=360)
LADDERS = {"every row": Ladders.linear(64, 1, 1), "few shapes": Ladders.exponential(128, 2, 3)}
CACHE = 2**20


def ignore(progress: WarmupProgress) -> None:
    """Nobody watches."""


def plan_of(model: ModelSpec, ladders: str = "few shapes", limits: Limits = LIMITS) -> ShapePlan:
    return plan_shapes(model, limits, Budgets.of(limits), LADDERS[ladders], resumes=True)


class Spoiled(StaticBackend):
    """Fills the scratch with what is no number before every step, so that it shows wherever it is read."""

    def prefill(self, batch: Any) -> Any:
        self.spoil()
        return super().prefill(batch)

    def decode(self, batch: Any) -> Any:
        self.spoil()
        return super().decode(batch)

    @torch.inference_mode()
    def spoil(self) -> None:
        cache = self._attention.cache
        for buffer in (*cache._keys, *cache._values):
            buffer[cache.scratch] = float("nan")
        if self._pictures is not None:
            self._pictures._vectors[-1:] = float("nan")


def loaded(
    model: ModelSpec,
    *,
    limits: Limits = LIMITS,
    device: Device | None = None,
    runner: GraphRunner | None = None,
    cache_bytes: int = CACHE,
    strict: bool = True,
) -> StaticBackend:
    device = device or Host()
    runner = runner or RecordedRunner()
    return Spoiled(model, limits, torch.float32, device, TorchStaticKernels(), runner, cache_bytes, strict)


@pytest.fixture(scope="module", params=[*GEOMETRIES, "demo"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    """Random models and the bundled one."""
    if request.param == "demo":
        return read_model(DEMO)
    return read_model(write_checkpoint(tmp_path_factory.mktemp("model"), GEOMETRIES[request.param]))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    """One random vision model."""
    return read_model(write_checkpoint(tmp_path_factory.mktemp("small"), Checkpoint()))


def agreement(
    backend: StaticBackend, model: ModelSpec, seed: int, plan: ShapePlan, limits: Limits = LIMITS
) -> Agreement:
    oracle = CpuReference(model, limits)
    return Agreement(model, limits, backend, oracle, seed, resumes=True, shapes=PlannedShapes(plan))


@pytest.mark.parametrize("ladders", LADDERS)
def test_greedy_tokens_are_the_oracle_s(model: ModelSpec, ladders: str) -> None:
    """In fp32, whatever joins, leaves, waits, is padded or computed in parts; and no shape is met unprepared."""
    plan = plan_of(model, ladders)
    backend = loaded(model)
    backend.warmup(plan, ignore)
    for seed in range(3):
        traffic = agreement(backend, model, seed, plan)
        traffic.run(steps=50)
        assert max(traffic.differences) < NOISE
    assert backend.stats()["unknown_shapes"] == 0


def test_a_thousand_requests_meet_no_unknown_shape(small: ModelSpec) -> None:
    """After the warm-up nothing is recorded any more; the oracle agrees to the end."""
    plan = plan_of(small)
    backend = loaded(small)
    backend.warmup(plan, ignore)
    graphs = backend.stats()["graphs"]
    traffic = agreement(backend, small, 0, plan)
    traffic.leaving = 0.7
    while traffic.requests < 1000:
        traffic.run(steps=50)
    stats = backend.stats()
    assert max(traffic.differences) < NOISE
    assert stats["unknown_shapes"] == 0
    assert stats["graphs"] == graphs == len(plan.prefill) + len(plan.decode) + 2 * len(plan.vision)
    assert stats["image_cache_hits"] > 0


@pytest.mark.parametrize("cache_bytes", [0, 50_000])
def test_pictures_are_right_without_room_to_keep_them(small: ModelSpec, cache_bytes: int) -> None:
    """With no cache of features, and one that holds a few."""
    plan = plan_of(small)
    backend = loaded(small, cache_bytes=cache_bytes)
    backend.warmup(plan, ignore)
    traffic = agreement(backend, small, 1, plan)
    traffic.run(steps=150)
    assert max(traffic.differences) < NOISE
    assert backend.stats()["image_cache_bytes"] <= cache_bytes


def test_without_a_warmup_shapes_are_prepared_when_they_are_met(small: ModelSpec) -> None:
    """None is called unknown, for none was promised."""
    plan = plan_of(small)
    backend = loaded(small)
    traffic = agreement(backend, small, 0, plan)
    traffic.run(steps=60)
    assert max(traffic.differences) < NOISE
    assert backend.stats()["unknown_shapes"] == 0
    assert 0 < backend.stats()["graphs"] < len(plan.prefill) + len(plan.decode) + 2 * len(plan.vision)


def test_a_second_question_about_a_picture_skips_the_tower(small: ModelSpec) -> None:
    """The features come from the cache, and the scores are the same."""
    plan = plan_of(small)
    backend = loaded(small)
    backend.warmup(plan, ignore)
    traffic = agreement(backend, small, 3, plan)
    prompt = next(prompt for prompt in iter(traffic.prompt, None) if prompt.images is not None)
    first = traffic.prefill([prompt], [0], [0], [len(prompt.tokens)])
    tiles = backend.stats()["encoded_tiles"]
    again = traffic.prefill([prompt], [1], [0], [len(prompt.tokens)])
    assert torch.equal(first, again)
    assert backend.stats()["encoded_tiles"] == tiles > 0


def test_placeholders_without_pictures_are_refused(small: ModelSpec) -> None:
    """Else they would show the picture of somebody else."""
    backend = loaded(small)
    batch = empty_prefill(PrefillShape(1, 8))
    batch.tokens[0, 2] = small.image_token_id or 0
    batch.lengths[0], batch.slots[0] = 8, 0
    with pytest.raises(BackendError, match="1 placeholders for 0 vectors"):
        backend.prefill(batch)


def test_after_the_warmup_an_unknown_shape_is_an_error(small: ModelSpec) -> None:
    """In tests; in service it is logged, and computed."""
    plan = ShapePlan(prefill=(PrefillShape(1, 16),), decode=(DecodeShape(1, 64),))
    batch = empty_prefill(PrefillShape(2, 16))
    strict, lenient = loaded(small), loaded(small, strict=False)
    for backend in (strict, lenient):
        backend.warmup(plan, ignore)
    with pytest.raises(UnplannedShape):
        strict.prefill(batch)
    assert lenient.decode(empty_decode(DecodeShape(2, 64))).logits.shape == (2, small.vocabulary)
    assert strict.stats()["unknown_shapes"] == lenient.stats()["unknown_shapes"] == 1


def test_the_log_probabilities_of_a_prompt_are_not_told(small: ModelSpec) -> None:
    """They would need the head at every position."""
    assert loaded(small).prefill(empty_prefill(PrefillShape(1, 16))).prompt_logprobs is None


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


class Small:
    """A device of little memory, of which caches and graphs take."""

    torch_device = torch.device("cpu")

    def __init__(self, total: int) -> None:
        self.total = total
        self.taken = 0

    def memory(self) -> Memory | None:
        return Memory(self.total - self.taken, self.total)

    def synchronise(self) -> None:
        """Nothing is under way."""

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
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Small], None]]:
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
    assert backend.capacity() == Capacity(16, 128)
    told: list[WarmupProgress] = []
    with caplog.at_level(logging.WARNING):
        backend.warmup(plan, told.append)
    assert backend.capacity() == Capacity(12, 128)
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
    assert backend.capacity() == Capacity(12, 128)


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
    assert backend.capacity() == Capacity(11, 128)
    backend.warmup(plan, ignore)
    assert backend.capacity() == Capacity(8, 128)


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


# What follows breaks the backend on purpose: the agreement must notice.


def see_everything(positions: torch.Tensor, window: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.zeros(*positions.shape, window, dtype=dtype).unsqueeze(1)


def left_over(patch: pytest.MonkeyPatch) -> None:
    """Decode sees what an earlier row left in the slot."""
    patch.setattr(backend_module, "mask_after", see_everything)


def one_more(patch: pytest.MonkeyPatch) -> None:
    """Decode sees one place behind its own."""
    right = rectangle_module.mask_after
    patch.setattr(backend_module, "mask_after", lambda positions, *rest: right(positions + 1, *rest))


def padding(patch: pytest.MonkeyPatch) -> None:
    """Prompts see what comes after them, padding included."""

    def attend(self: object, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.scaled_dot_product_attention(query, key, value, enable_gqa=True)

    patch.setattr(TorchStaticKernels, "attend_causal", attend)


def last_column(patch: pytest.MonkeyPatch) -> None:
    """The scores are those after the padding."""
    right = backend_module.prefill_indices

    def wrong(batch: Any, cache: KvCache) -> list[torch.Tensor]:
        indices = right(batch, cache)
        rows, length = batch.tokens.shape
        return [indices[0], torch.arange(rows) * length + length - 1, *indices[2:]]

    patch.setattr(backend_module, "prefill_indices", wrong)


def scratch_read(patch: pytest.MonkeyPatch) -> None:
    """Resumed prompts read the scratch in place of their first token."""
    right = backend_module.prefill_indices

    def wrong(batch: Any, cache: KvCache) -> list[torch.Tensor]:
        *indices, window = right(batch, cache)
        if batch.shape.cached:
            window = window.clone()
            window[0] = cache.scratch
        return [*indices, window]

    patch.setattr(backend_module, "prefill_indices", wrong)


def no_scratch(patch: pytest.MonkeyPatch) -> None:
    """Padding and idle rows write where slot 0 begins."""

    class Careless(KvCache):
        def __init__(self, geometry: CacheGeometry, slots: int, device: torch.device) -> None:
            super().__init__(geometry, slots, device)
            self.scratch = 0

    patch.setattr(backend_module, "KvCache", Careless)
    patch.setattr(Spoiled, "spoil", lambda self: None)


def stale_picture(patch: pytest.MonkeyPatch) -> None:
    """The first picture ever stays in the buffer."""
    right = buffer_module.PictureBuffer.fill
    filled: list[object] = []

    def wrong(self: buffer_module.PictureBuffer, batch: Any) -> None:
        if not filled:
            right(self, batch)
        filled.extend(images for images in batch.images if images is not None)

    patch.setattr(buffer_module.PictureBuffer, "fill", wrong)


def frozen_number(patch: pytest.MonkeyPatch) -> None:
    """Decode takes its positions from Python."""

    def wrong(self: StaticBackend, batch: Any) -> Any:
        call = right(self, batch)
        positions = batch.positions.clone()

        def function(indices: torch.Tensor) -> Any:
            return call.function(torch.stack([indices[0], positions, indices[2]]))

        return Call(call.key, function, call.inputs)

    right = StaticBackend._decode
    patch.setattr(StaticBackend, "_decode", wrong)


class Kept(torch.Tensor):
    """A tensor that nobody can copy."""

    def clone(self, **options: object) -> Any:
        return self


def kept_output(patch: pytest.MonkeyPatch) -> None:
    """The cache of pictures keeps what the next picture overwrites."""
    right = Graphs.run

    def wrong(self: Graphs, call: Call) -> Any:
        outputs = right(self, call)
        return tuple(x.as_subclass(Kept) for x in outputs) if isinstance(call.key, VisionShape) else outputs

    patch.setattr(Graphs, "run", wrong)


FAULTS = (
    left_over,
    one_more,
    padding,
    last_column,
    scratch_read,
    no_scratch,
    stale_picture,
    frozen_number,
    kept_output,
)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_the_agreement_notices(
    fault: Callable[[pytest.MonkeyPatch], None], small: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of these is a way to be wrong that the tests above must show."""
    fault(monkeypatch)
    plan = plan_of(small)
    backend = loaded(small)
    backend.warmup(plan, ignore)

    def compare() -> None:
        for seed in range(3):
            traffic = agreement(backend, small, seed, plan)
            traffic.run(steps=50)
            assert max(traffic.differences) < NOISE

    with pytest.raises(AssertionError):
        compare()
