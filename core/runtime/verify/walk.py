"""From a case to the batches of it, one after the other, padded as the plan says. No model in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from runtime.backend import DecodeBatch, DecodeShape, PrefillBatch, PrefillShape, ShapePlan, VisionShape
from runtime.batches import NO_SLOT, ShapeLookup
from runtime.parts import images_within, next_part
from runtime.verify.cases import Case, Decode, Join, Leave
from runtime.verify.prompts import Prompt

Tokens = Sequence[int]


@dataclass(frozen=True, slots=True)
class Prefill:
    """Prompts, or parts of them."""

    batch: PrefillBatch
    slots: tuple[int, ...]
    """Of the rows, from the first; the rest is padding."""
    is_last: bool
    """Whether prompts end with it, so that what comes after them is told."""


@dataclass(frozen=True, slots=True)
class DecodeStep:
    """A token for each of some slots."""

    batch: DecodeBatch
    slots: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class End:
    """Rows that are released."""

    slots: tuple[int, ...]


Move = Prefill | DecodeStep | End
Take = Callable[[Move], Tokens]
"""Does what a move says and returns the token that each of its slots goes on with; nobody looks where none is told."""


@dataclass(slots=True)
class Row:
    """What a slot holds."""

    length: int
    newest: int
    """Its next input."""


def walk(case: Case, shapes: ShapeLookup, resumes: bool, take: Take) -> None:
    """Make every move of a case, in order; without `resumes` prompts are never cut.

    Raises UnplannedShape for a batch that no shape holds.
    """
    _Walk(case, shapes, resumes, take).run()


def shapes_met(case: Case, shapes: ShapeLookup, resumes: bool) -> ShapePlan:
    """Return the shapes of a case; raises UnplannedShape."""
    prefill: dict[PrefillShape, None] = {}
    decode: dict[DecodeShape, None] = {}
    vision: dict[VisionShape, None] = {}

    def note(move: Move) -> Tokens:
        if isinstance(move, Prefill):
            prefill[move.batch.shape] = None
            for images in move.batch.images:
                vision.update(dict.fromkeys(map(VisionShape, () if images is None else images.counts)))
        elif isinstance(move, DecodeStep):
            decode[move.batch.shape] = None
        return [0] * len(move.slots)

    walk(case, shapes, resumes, note)
    return ShapePlan(tuple(prefill), tuple(decode), tuple(vision))


@dataclass(slots=True)
class _Walk:
    case: Case
    shapes: ShapeLookup
    resumes: bool
    take: Take
    rows: dict[int, Row] = field(default_factory=dict)

    def run(self) -> None:
        for step in self.case.steps:
            if isinstance(step, Join):
                self._join(step)
            elif isinstance(step, Decode):
                for _ in range(step.steps):
                    self._decode(step.slots)
            else:
                self._leave(step)

    def _join(self, join: Join) -> None:
        prompts = [self.case.prompts[number] for number in join.prompts]
        tokens: Tokens = ()
        if join.longest_part is None or not self.resumes:
            tokens = self.take(self._prefill(prompts, join.slots, [slice(0, len(each.tokens)) for each in prompts]))
        else:
            (prompt,) = prompts
            start, length = 0, len(prompt.tokens)
            while start < length:
                part = next_part(start, length, join.longest_part, prompt.pictures)
                tokens = self.take(self._prefill(prompts, join.slots, [part]))
                start = part.stop
        for prompt, slot, token in zip(prompts, join.slots, tokens, strict=True):
            self.rows[slot] = Row(len(prompt.tokens), token)

    def _prefill(self, prompts: Sequence[Prompt], slots: tuple[int, ...], parts: Sequence[slice]) -> Prefill:
        lengths = [part.stop - part.start for part in parts]
        shape = self.shapes.prefill_for(len(prompts), max(lengths), max(part.start for part in parts))
        padding = shape.rows - len(prompts)
        tokens = torch.zeros(shape.rows, shape.length, dtype=torch.int64)
        for row, (prompt, part) in enumerate(zip(prompts, parts, strict=True)):
            tokens[row, : lengths[row]] = torch.tensor(prompt.tokens[part])
        images = [
            images_within(prompt.images, prompt.pictures, part) for prompt, part in zip(prompts, parts, strict=True)
        ]
        batch = PrefillBatch(
            shape=shape,
            tokens=tokens,
            lengths=torch.tensor(lengths + [0] * padding),
            offsets=torch.tensor([part.start for part in parts] + [0] * padding),
            slots=torch.tensor([*slots, *[NO_SLOT] * padding]),
            images=(*images, *[None] * padding),
        )
        return Prefill(batch, slots, parts[0].stop == len(prompts[0].tokens))

    def _decode(self, slots: tuple[int, ...]) -> None:
        shape = self.shapes.decode_for(max(slots) + 1, max(self.rows[slot].length for slot in slots) + 1)
        tokens, positions, active = [0] * shape.rows, [0] * shape.rows, [False] * shape.rows
        for slot in slots:
            tokens[slot], positions[slot], active[slot] = self.rows[slot].newest, self.rows[slot].length, True
        batch = DecodeBatch(shape, torch.tensor(tokens), torch.tensor(positions), torch.tensor(active))
        for slot, token in zip(slots, self.take(DecodeStep(batch, slots)), strict=True):
            self.rows[slot] = Row(self.rows[slot].length + 1, token)

    def _leave(self, step: Leave) -> None:
        self.take(End(step.slots))
        for slot in step.slots:
            del self.rows[slot]
