"""One loaded model through all cases: the reference writes what it computes, any other is measured against that."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Final

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from runtime.backend import Capacity, DecodeBatch, Images, Limits, ModelSpec, Placement, PrefillBatch, ShapePlan
from runtime.batches import AnyShapes
from runtime.errors import BackendError, DeviceLost, StartupError, UnplannedShape
from runtime.plugins import Hooks
from runtime.shapes import PlannedShapes
from runtime.verify.cases import Case, LeftOut, cases_of
from runtime.verify.measures import Measure, Place
from runtime.verify.walk import DecodeStep, End, Move, Prefill, Tokens, shapes_met, walk

PREFILL_LOGITS: Final = "prefill logits"
DECODE_LOGITS: Final = "decode logits"
COMPUTE_DTYPE: Final = "compute_dtype"
"""Name in `Capacity.details` by which a backend tells what it computes in."""

Tell = Callable[[str], None]
"""Hears the name of a case when it is done."""


class Role(Enum):
    """What a run is for."""

    REFERENCE = "the reference"
    TESTED = "the backend"
    NOISE = "the noise of rounding"


@dataclass(frozen=True, slots=True)
class Task:
    """What one process does with one loaded model."""

    backend: str
    model: ModelSpec
    limits: Limits
    folder: Path
    """Where the reference is written, or read."""
    cases: tuple[str, ...]
    longest: int
    seed: int
    layers: bool
    plan: ShapePlan | None
    """What batches are padded to, for every model alike; None where the backend under test takes any shape."""
    role: Role


@dataclass(slots=True)
class Outcome:
    """What came of it."""

    measures: dict[str, dict[str, Measure]] = field(default_factory=dict)
    """By case and stage; empty for the reference."""
    left_out: dict[str, str] = field(default_factory=dict)
    """By case why it was not run."""
    failed: dict[str, str] = field(default_factory=dict)
    """By case what the backend failed with."""
    dtype: str = ""
    """What the backend computes in, as it says or else as its tensors are."""
    tells_stages: bool = False
    details: Mapping[str, str] = field(default_factory=dict)
    """What the backend says of itself once it is loaded."""


def perform(task: Task, hooks: Hooks, tell: Tell) -> Outcome:
    """Run the cases of a task.

    Raises StartupError when the backend affords fewer rows than were asked for, or the reference fails, and DeviceLost.
    """
    return _Run(task, hooks, tell).outcome()


class _Run:
    def __init__(self, task: Task, hooks: Hooks, tell: Tell) -> None:
        self._task = task
        self._hooks = hooks
        self._tell = tell
        self._shapes = AnyShapes(task.limits) if task.plan is None else PlannedShapes(task.plan)
        self._capacity = hooks.capacity()
        self._outcome = Outcome(details=self._capacity.details)

    def outcome(self) -> Outcome:
        self._check(self._capacity)
        cases = [case for case in self._cases() if self._is_possible(case)]
        if self._task.role is Role.TESTED and self._task.plan is not None:
            self._warm(cases)
        for case in cases:
            try:
                self._play(case)
            except DeviceLost:
                raise
            except BackendError as error:
                if self._task.role is not Role.TESTED:
                    raise StartupError(f"the oracle fails in case {case.name}: {error.message}") from error
                self._outcome.failed[case.name] = error.message
            self._tell(case.name)
        self._outcome.dtype = self._capacity.details.get(COMPUTE_DTYPE, self._outcome.dtype)
        return self._outcome

    def _cases(self) -> list[Case]:
        """Make the cases; note those that the limits do not allow."""
        task = self._task
        made = cases_of(task.model, task.limits, task.longest, task.seed, task.cases)
        self._outcome.left_out |= {each.name: each.reason for each in made if isinstance(each, LeftOut)}
        return [each for each in made if isinstance(each, Case)]

    def _is_possible(self, case: Case) -> bool:
        if case.resumes and not self._capacity.resumes and self._task.role is Role.TESTED:
            self._outcome.left_out[case.name] = "the backend computes whole prompts only"
            return False
        try:
            shapes_met(case, self._shapes, resumes=case.resumes)
        except UnplannedShape as refusal:
            self._outcome.left_out[case.name] = f"the limits do not admit it: {refusal.message}"
            return False
        return True

    def _check(self, capacity: Capacity) -> None:
        limits = self._task.limits
        if capacity.rows < limits.rows or capacity.context < limits.context:
            raise StartupError(
                f"backend {self._hooks.name} affords {capacity.rows} rows of {capacity.context} tokens, not "
                f"{limits.rows} of {limits.context}; add --max-batch-size {capacity.rows} and --max-total-tokens "
                f"{capacity.context}"
            )

    def _warm(self, cases: Sequence[Case]) -> None:
        """Prepare the shapes that the cases meet, as in service but no others."""
        met = [shapes_met(case, self._shapes, self._capacity.resumes) for case in cases]
        plan = ShapePlan(
            tuple(dict.fromkeys(shape for each in met for shape in each.prefill)),
            tuple(dict.fromkeys(shape for each in met for shape in each.decode)),
            tuple(dict.fromkeys(shape for each in met for shape in each.vision)),
        )
        self._hooks.warmup(plan, lambda _progress: None)

    def _play(self, case: Case) -> None:
        folder = self._task.folder / case.name
        measures: dict[str, Measure] = {}
        if self._task.role is Role.REFERENCE:
            folder.mkdir(parents=True, exist_ok=True)
        else:
            self._outcome.measures[case.name] = measures
        held: set[int] = set()
        number = 0

        def take(move: Move) -> Tokens:
            nonlocal number
            if isinstance(move, End):
                held.difference_update(move.slots)
                self._hooks.release(move.slots)
                return ()
            held.update(move.slots)
            answer = self._answer(move)
            if isinstance(move, Prefill) and not move.is_last:
                return ()
            number += 1
            file = folder / f"{number}.safetensors"
            if self._task.role is Role.REFERENCE:
                save_file({name: tensor.float().contiguous() for name, tensor in answer.items()}, file)
                return _greedy(answer)
            return self._measured(move, answer, file, measures)

        try:
            walk(case, self._shapes, self._capacity.resumes, take)
        finally:
            if held:
                with suppress(DeviceLost):
                    self._hooks.release(sorted(held))

    def _answer(self, move: Prefill | DecodeStep) -> dict[str, torch.Tensor]:
        """Do what a move says; return its stages and scores, on the host."""
        slots = list(move.slots)
        if isinstance(move, DecodeStep):
            logits = self._hooks.decode(move.batch).logits[slots]
            return {DECODE_LOGITS: self._noted(logits)}
        batch = move.batch
        stages = {} if batch.offsets.any() or not move.is_last else self._hooks.stages(batch, self._task.layers)
        answer = {name: self._noted(tensor) for name, tensor in stages.items()}
        self._outcome.tells_stages |= bool(stages)
        output = self._hooks.prefill(batch)
        if move.is_last:
            answer[PREFILL_LOGITS] = self._noted(output.logits[: len(slots)])
        self._hooks.concatenate(output.prefix, [Placement(row, slot) for row, slot in enumerate(slots)])
        return answer

    def _noted(self, tensor: torch.Tensor) -> torch.Tensor:
        """Bring a tensor to the host; the narrowest type that any has is taken for that of the backend."""
        dtype = str(tensor.dtype).removeprefix("torch.")
        known = self._outcome.dtype
        if not known or getattr(torch, known).itemsize > tensor.dtype.itemsize:
            self._outcome.dtype = dtype
        return tensor.detach().to("cpu", copy=True)

    def _measured(
        self, move: Prefill | DecodeStep, answer: Mapping[str, torch.Tensor], file: Path, measures: dict[str, Measure]
    ) -> Tokens:
        """Measure an answer; return the reference's tokens, so that one that differs changes nothing after it."""
        with safe_open(file, "pt") as reference:
            logits_name = PREFILL_LOGITS if isinstance(move, Prefill) else DECODE_LOGITS
            for name in reference.keys() & answer.keys():
                measure = measures.setdefault(name, Measure())
                wanted, got = reference.get_tensor(name), answer[name]
                places = _places(name, move, wanted)
                if name == logits_name:
                    measure.add_scores(got, wanted, places)
                else:
                    measure.add(got, wanted, places)
            return _greedy({logits_name: reference.get_tensor(logits_name)})


def _greedy(answer: Mapping[str, torch.Tensor]) -> Tokens:
    (logits,) = (answer[name] for name in (PREFILL_LOGITS, DECODE_LOGITS) if name in answer)
    tokens: list[int] = logits.argmax(-1).tolist()
    return tokens


def _places(stage: str, move: Prefill | DecodeStep, wanted: torch.Tensor) -> list[Place]:
    """Return where the vectors of a stage belong, in their order."""
    batch = move.batch
    if isinstance(batch, DecodeBatch):
        return [Place(slot, None, int(batch.positions[slot])) for slot in move.slots]
    if stage == PREFILL_LOGITS:
        ends = (batch.offsets + batch.lengths - 1).tolist()
        return [Place(slot, None, end) for slot, end in zip(move.slots, ends, strict=False)]
    if stage.partition(".")[0] in ("pixels", "vision", "projector"):
        return _tile_places(batch, wanted)
    lengths = batch.lengths.tolist()
    return [Place(slot, None, at) for slot, length in zip(move.slots, lengths, strict=False) for at in range(length)]


def _tile_places(batch: PrefillBatch, wanted: torch.Tensor) -> list[Place]:
    tiles = [
        (slot, tile)
        for slot, images in zip(batch.slots.tolist(), batch.images, strict=True)
        for tile in range(_tiles(images))
    ]
    if wanted.dim() == 4:
        return [Place(slot, tile, None) for slot, tile in tiles]
    return [Place(slot, tile, patch) for slot, tile in tiles for patch in range(wanted.shape[1])]


def _tiles(images: Images | None) -> int:
    return 0 if images is None else sum(images.counts)
