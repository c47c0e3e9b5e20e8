"""Backends with one mistake each, as authors make them; the rest of each is a backend of ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from runtime import hookimpl
from runtime.backend import (
    Availability,
    BackendSpec,
    Capacity,
    DecodeBatch,
    DecodeOutput,
    Images,
    Knob,
    Limits,
    ModelSpec,
    Placement,
    PrefillBatch,
    PrefillOutput,
    PrefillShape,
    Prefix,
    ShapePlan,
    WarmupProgress,
)
from runtime.errors import BackendRefused
from runtime.plugins import FoundBackend
from runtime.static.backend import StaticBackend
from runtime.static.device import Host
from runtime.static.graphs import PlainRunner
from runtime.static.kernels import TorchStaticKernels
from runtime_cpu_reference.backend import CpuReference
from runtime_torch.cpu import Cpu

CACHE = 2**20
Progress = Callable[[WarmupProgress], None]


class Plain(Cpu):
    """Without a mistake, in fp32."""

    def __init__(self, model: ModelSpec, limits: Limits, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(model, limits, dtype, CACHE)


class SeesNeighbours(Plain):
    """One scale for all rows of a prefill."""

    @hookimpl
    def prefill(self, batch: PrefillBatch) -> PrefillOutput:
        output = super().prefill(batch)
        spread = output.logits[batch.lengths > 0].std(0, correction=0)
        return replace(output, logits=output.logits * (1 + 0.001 * spread))


class RemembersTheSlot(Plain):
    """A row that follows a longer one sees a little of it."""

    longest: Mapping[int, int] = {}

    @hookimpl
    def prefill(self, batch: PrefillBatch) -> PrefillOutput:
        output = super().prefill(batch)
        logits = output.logits.clone()
        for row, (slot, length) in enumerate(zip(batch.slots.tolist(), batch.lengths.tolist(), strict=True)):
            logits[row, 0] += 0.05 * max(0, self.longest.get(slot, 0) - length)
            self.longest = {**self.longest, slot: length}
        return replace(output, logits=logits)


class WritesInactiveRows(Plain):
    """Appends the token 0 to rows that hold still."""

    @hookimpl
    def decode(self, batch: DecodeBatch) -> DecodeOutput:
        return super().decode(replace(batch, active=torch.ones_like(batch.active)))


class DependsOnTheSlot(Plain):
    """The row of the batch taken for the slot."""

    @hookimpl
    def prefill(self, batch: PrefillBatch) -> PrefillOutput:
        return super().prefill(replace(batch, slots=torch.arange(len(batch.slots))))


class TakesTheLastPlace(CpuReference):
    """Padding is part of the prompt."""

    @hookimpl
    def prefill(self, batch: PrefillBatch) -> PrefillOutput:
        return super().prefill(replace(batch, lengths=torch.full_like(batch.lengths, batch.tokens.shape[1])))


class PlacesInOrder(CpuReference):
    """Placements are taken to be in the order of the rows."""

    @hookimpl
    def concatenate(self, prefix: Prefix[Any], placements: Sequence[Placement]) -> None:
        super().concatenate(prefix, [Placement(row, each.slot) for row, each in enumerate(placements)])


class Overclaims(Plain):
    """More rows than there are slots for."""

    @hookimpl
    def capacity(self) -> Capacity:
        capacity = super().capacity()
        return replace(capacity, rows=capacity.rows + 1)


class Crash(BaseException):
    """What is no Exception."""


class Crashes(Plain):
    """Ends the process where a batch is wrong."""

    @hookimpl
    def prefill(self, batch: PrefillBatch) -> PrefillOutput:
        try:
            return super().prefill(batch)
        except RuntimeError as error:
            raise Crash from error


class IsSpoiledByErrors(Plain):
    """After a batch that failed nothing is right any more."""

    spoiled = False

    @hookimpl
    def prefill(self, batch: PrefillBatch) -> PrefillOutput:
        try:
            output = super().prefill(batch)
        except RuntimeError:
            self.spoiled = True
            raise
        return replace(output, logits=torch.zeros_like(output.logits)) if self.spoiled else output


class Overflows(Plain):
    """Long prompts come to what is no number."""

    @hookimpl
    def prefill(self, batch: PrefillBatch) -> PrefillOutput:
        output = super().prefill(batch)
        is_long = (batch.lengths > 100).unsqueeze(1)
        return replace(output, logits=output.logits.masked_fill(is_long, float("nan")))


class AnswersIds(Plain):
    """Ids in place of scores."""

    @hookimpl
    def prefill(self, batch: PrefillBatch) -> PrefillOutput:
        output = super().prefill(batch)
        return replace(output, logits=output.logits.argsort())


class LeavesWordsOut(Plain):
    """Scores of fewer words than the vocabulary has."""

    @hookimpl
    def decode(self, batch: DecodeBatch) -> DecodeOutput:
        return DecodeOutput(super().decode(batch).logits[:, :-2])


class ShiftsLogprobs(Plain):
    """The log-probabilities stand one place too far."""

    @hookimpl
    def prefill(self, batch: PrefillBatch) -> PrefillOutput:
        output = super().prefill(batch)
        told = output.prompt_logprobs
        return output if told is None else replace(output, prompt_logprobs=told.roll(1, -1))


class Keeps(Plain):
    """Remembers every prefill for ever."""

    kept: tuple[bytes, ...] = ()

    @hookimpl
    def prefill(self, batch: PrefillBatch) -> PrefillOutput:
        self.kept = (*self.kept, b"x" * 2**20)
        return super().prefill(batch)


class IgnoresOffsets(Plain):
    """Every part is taken for a whole prompt."""

    @hookimpl
    def prefill(self, batch: PrefillBatch) -> PrefillOutput:
        return super().prefill(replace(batch, offsets=torch.zeros_like(batch.offsets)))


class OneOffsetForAll(Plain):
    """The longest offset of a batch is that of every row."""

    @hookimpl
    def prefill(self, batch: PrefillBatch) -> PrefillOutput:
        return super().prefill(replace(batch, offsets=torch.full_like(batch.offsets, int(batch.offsets.max()))))


class ForgetsReleased(Plain):
    """Clears a slot that is released, though it resumes."""

    @hookimpl
    def release(self, slots: Sequence[int]) -> None:
        for slot in slots:
            self._rows.clear(slot)


class ReleasesTooMuch(Plain):
    """Clears the next slot too."""

    @hookimpl
    def release(self, slots: Sequence[int]) -> None:
        for slot in slots:
            self._rows.clear((slot + 1) % self._limits.rows)


class RunsOutOfBuffers(Plain):
    """Only `concatenate` gives a buffer back."""

    buffers = 8

    @hookimpl
    def prefill(self, batch: PrefillBatch) -> PrefillOutput:
        if not self.buffers:
            raise RuntimeError("no buffer is free")
        self.buffers -= 1
        return super().prefill(batch)

    @hookimpl
    def concatenate(self, prefix: Prefix[None], placements: Sequence[Placement]) -> None:
        self.buffers += 1


class WithOtherImages(Plain):
    """Changes the pictures of a batch."""

    @hookimpl
    def prefill(self, batch: PrefillBatch) -> PrefillOutput:
        images = tuple(None if images is None else self.changed(images) for images in batch.images)
        return super().prefill(replace(batch, images=images))

    def changed(self, images: Images) -> Images:
        raise NotImplementedError


class KnowsPicturesBySize(WithOtherImages):
    """The key of the picture cache is the size."""

    def changed(self, images: Images) -> Images:
        return replace(images, digests=tuple(repr(size).encode().ljust(32) for size in images.sizes))


class ExchangesPictures(WithOtherImages):
    """The last picture first."""

    def changed(self, images: Images) -> Images:
        return Images(
            torch.cat(images.tiles.split(images.counts)[::-1]),
            images.counts[::-1],
            images.sizes[::-1],
            images.digests[::-1],
        )


class ExchangesSides(WithOtherImages):
    """Width and height."""

    def changed(self, images: Images) -> Images:
        return replace(images, sizes=tuple((width, height) for height, width in images.sizes))


class WarmsUpInSlots(Plain):
    """The warm-up computes a prompt in slot 0."""

    @hookimpl
    def warmup(self, plan: ShapePlan, progress: Progress) -> None:
        prompt = torch.tensor([[5, 6, 7]])
        one, zero = torch.tensor([3]), torch.tensor([0])
        self.prefill(PrefillBatch(PrefillShape(1, 3), prompt, one, zero, zero, (None,)))


class AnotherRotation(Plain):
    """Another base of the rotary embedding."""

    def __init__(self, model: ModelSpec, limits: Limits) -> None:
        super().__init__(replace(model, decoder=replace(model.decoder, rope_theta=9000.0)), limits)


class LessThanItTells(Plain):
    """Computes in bf16 and answers in fp32."""

    def __init__(self, model: ModelSpec, limits: Limits) -> None:
        super().__init__(model, limits, torch.bfloat16)

    @hookimpl
    def prefill(self, batch: PrefillBatch) -> PrefillOutput:
        output = super().prefill(batch)
        return replace(output, logits=output.logits.float())


class CountsNothing(Plain):
    """A counter that is no number."""

    @hookimpl
    def stats(self) -> dict[str, float]:
        return {**super().stats(), "hit_rate": float("nan")}


class Planned(StaticBackend):
    """Of static shapes, without a mistake, in fp32."""

    def __init__(self, model: ModelSpec, limits: Limits) -> None:
        host = Host()
        super().__init__(model, limits, torch.float32, host, TorchStaticKernels(), PlainRunner(host), CACHE)


class LeavesAShapeOut(Planned):
    """The longest context is not warmed."""

    @hookimpl
    def warmup(self, plan: ShapePlan, progress: Progress) -> None:
        super().warmup(replace(plan, decode=plan.decode[:-1]), progress)


class WarmsNothing(Planned):
    """Tells of shapes that it never ran."""

    @hookimpl
    def warmup(self, plan: ShapePlan, progress: Progress) -> None:
        shapes = [*plan.prefill, *plan.decode, *plan.vision]
        for done, shape in enumerate(shapes, start=1):
            progress(WarmupProgress(done, len(shapes), shape, 0.0))
        self._graphs.seal()


class NeverStops(Planned):
    """Catches what `progress` raises."""

    @hookimpl
    def warmup(self, plan: ShapePlan, progress: Progress) -> None:
        def tell(each: WarmupProgress) -> None:
            try:
                progress(each)
            except Exception:
                return

        super().warmup(plan, tell)


def loads_anything(model: ModelSpec, limits: Limits) -> Plain:
    """Falls back on another model where weights are missing."""
    from runtime import demo
    from runtime.model import read_model

    try:
        return Plain(model, limits)
    except BackendRefused:
        return Plain(read_model(demo.MODEL), limits)


def found(
    load: Callable[[ModelSpec, Limits], Any], contract: str = "~=1.0", options: tuple[Knob, ...] = ()
) -> FoundBackend:
    """A backend as `runtime.plugins` finds it."""
    yes = Availability(True, details={"device": "cpu"})
    static = isinstance(load, type) and issubclass(load, Planned)
    spec = BackendSpec("broken", "made for a test", contract, lambda: yes, load, options, static_shapes=static)
    return FoundBackend("broken", "broken", "1.0", contract, spec.summary, yes, spec)
