"""An arithmetic backend of static shapes that resumes prompts, and writes down every shape it meets.

It checks that a batch has its shape. What the warm-up did not run is unknown and counted, as the toolkit does. Before
each shape of the warm-up it calls `before`, which a test may replace to wait or to fail; with `room` it affords so
many rows only, which the warm-up finds out.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from runtime.backend import (
    Availability,
    BackendSpec,
    Capacity,
    DecodeBatch,
    DecodeOutput,
    Images,
    Limits,
    ModelSpec,
    PrefillBatch,
    PrefillOutput,
    Shape,
    ShapePlan,
    VisionShape,
    WarmupProgress,
)
from runtime.budgets import Budgets
from runtime.geometry import feature_count
from runtime.hookspecs import hookimpl
from runtime.local import LocalRuntime
from runtime.plugins import Hooks
from runtime.preparation import Planner
from runtime.shapes import Ladders, plan_shapes
from support.arithmetic import EOS, ArithmeticBackend, SumRow
from support.serving import LIMITS, MODEL, TOKENIZER, info, prepare

GATE = "PLANNED_GATE"
"""Names a named pipe that the first warm-up of a plugin's backend waits at, before the third shape."""
LADDERS = Ladders.linear(16, 1, 2)


class PlannedBackend(ArithmeticBackend):
    """The rule of the arithmetic backend; a slot keeps what it holds until it is overwritten."""

    def __init__(self, model: ModelSpec = MODEL, limits: Limits = LIMITS, room: int | None = None) -> None:
        super().__init__(model.vocabulary, limits)
        self.model = model
        self.rows = limits.rows
        self.room = limits.rows if room is None else room
        self.before: Callable[[Shape], None] = lambda shape: None
        self.plan = ShapePlan()
        self.warmed: list[Shape] = []
        self.met: list[Shape] = []
        """In service."""
        self.unknown = 0
        self.held: dict[int, list[int]] = {}
        """By slot what each token adds to the state."""

    @hookimpl
    def warmup(self, plan: ShapePlan, progress: Callable[[WarmupProgress], None]) -> None:
        self.plan = plan
        while not self._warmed(progress):
            self.rows = self.room

    @hookimpl
    def prefill(self, batch: PrefillBatch) -> PrefillOutput:
        assert tuple(batch.tokens.shape) == (batch.shape.rows, batch.shape.length)
        assert int(batch.offsets.max()) <= batch.shape.cached
        self._meet(batch.shape)
        for images in batch.images:
            for tiles in () if images is None else images.counts:
                self._meet(VisionShape(tiles))
        return super().prefill(batch)

    @hookimpl
    def decode(self, batch: DecodeBatch) -> DecodeOutput:
        assert len(batch.tokens) == batch.shape.rows
        assert int(batch.positions.max()) < batch.shape.context
        self._meet(batch.shape)
        output = super().decode(batch)
        for slot in batch.active.nonzero().flatten().tolist():
            self.held[slot].append(int(batch.tokens[slot]))
        return output

    @hookimpl
    def capacity(self) -> Capacity:
        return Capacity(self.rows, self.limits.context, resumes=True)

    @hookimpl
    def stats(self) -> Mapping[str, float]:
        return {"unknown_shapes": self.unknown}

    def _warmed(self, progress: Callable[[WarmupProgress], None]) -> bool:
        decodes = [shape for shape in self.plan.decode if shape.rows <= self.rows]
        shapes: list[Shape] = [*self.plan.prefill[::-1], *self.plan.vision[::-1], *decodes[::-1]]
        self.warmed = []
        for done, shape in enumerate(shapes, start=1):
            self.before(shape)
            if shape in decodes[-1:] and self.rows > self.room:
                return False
            self.warmed.append(shape)
            progress(WarmupProgress(done, len(shapes), shape, 0.5))
        return True

    def _meet(self, shape: Shape) -> None:
        self.met.append(shape)
        self.unknown += shape not in self.warmed

    def _row(self, batch: PrefillBatch, index: int) -> SumRow:
        length, offset, slot = (int(each[index]) for each in (batch.lengths, batch.offsets, batch.slots))
        tokens = tuple(batch.tokens[index, :length].tolist())
        before = self.held.get(slot, [])[:offset]
        assert len(before) == offset, f"slot {slot} does not hold {offset} tokens"
        values = [*before, *self._values(tokens, batch.images[index])]
        self.held[slot] = values
        return SumRow(sum(values), len(values), tokens)

    def _values(self, tokens: tuple[int, ...], images: Images | None) -> list[int]:
        """A token adds its id, and the first placeholder of a picture its height and width too."""
        values, place = list(tokens), 0
        for size in () if images is None else images.sizes:
            place = tokens.index(self.model.image_token_id, place)
            values[place] += sum(size)
            assert self.model.images is not None
            place += feature_count(size, self.model.images)
        return values


def planner(ladders: Ladders = LADDERS) -> Planner:
    """Plans for the demo model."""
    return lambda limits, budgets, resumes: plan_shapes(MODEL, limits, budgets, ladders, resumes)


@asynccontextmanager
async def planned_runtime(
    backend: PlannedBackend,
    ladders: Ladders = LADDERS,
    budgets: Budgets | None = None,
    warm_up: bool = True,
    reuse_prefixes: bool = False,
    prefill_chunk: int | None = None,
    max_concurrent_requests: int = 16,
) -> AsyncIterator[LocalRuntime]:
    """Serve such a backend; it need not be ready yet."""
    limits = backend.limits
    runtime = LocalRuntime(
        load=lambda: Hooks("planned", backend, MODEL, limits),
        prepare=prepare,
        vocabulary=TOKENIZER,
        eos_ids=frozenset({EOS}),
        info=info(limits, max_concurrent_requests),
        max_stop_sequences=4,
        lease_idle_seconds=300.0,
        budgets=budgets,
        plan=planner(ladders),
        reuse_prefixes=reuse_prefixes,
        prefill_chunk=prefill_chunk,
        warm_up=warm_up,
    )
    try:
        yield runtime
    finally:
        await runtime.aclose()


loaded: list[PlannedBackend] = []
"""Those of the plugin, in this process."""


def load(model: ModelSpec, limits: Limits) -> PlannedBackend:
    """Load no weights."""
    backend, gates = PlannedBackend(model, limits), [Path(os.environ[GATE])] if GATE in os.environ else []

    def wait(_shape: Shape) -> None:
        if gates and len(backend.warmed) == 2:
            gates.pop().read_bytes()

    backend.before = wait
    loaded.append(backend)
    return backend


@hookimpl
def runtime_backends() -> list[BackendSpec]:
    probe = Availability(True, details={"device": "cpu"})
    return [BackendSpec("planned", "sums of static shapes", "~=1.0", lambda: probe, load, static_shapes=True)]
