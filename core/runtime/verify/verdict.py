"""From measures to a verdict: which errors rounding explains, and which is the first that it does not."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import torch

from runtime.verify.measures import Flip, Measure, Place
from runtime.verify.run import DECODE_LOGITS, PREFILL_LOGITS, Outcome

MULTIPLE: Final = 4.0
"""Times the oracle's own loss in the backend's dtype that a backend may lose; measured in docs/verify.md."""
STAGES: Final = ("pixels", "vision", "projector", "embeddings", "decoder", PREFILL_LOGITS, DECODE_LOGITS)
"""In the order of computation."""
TOKENS: Final = "tokens"
"""The stage behind the scores: the likeliest of them."""
LAYERED: Final = ("vision", "decoder")
"""Stages of which layers can be told."""
BINS: Final = 64
"""Points of a plot."""


@dataclass(frozen=True, slots=True)
class Bar:
    """What rounding in a dtype may explain."""

    multiple: float
    """Of the noise."""
    roundoff: float
    """Largest relative error of rounding one number: noise is never taken for less."""

    @classmethod
    def of(cls, dtype: str, reference_dtype: str) -> Bar:
        """A reference of the same dtype is off by as much itself: the difference of two is √2 times the noise."""
        both = math.sqrt(2) if dtype == reference_dtype else 1.0
        return cls(MULTIPLE * both, float(torch.finfo(getattr(torch, dtype)).eps) / 2)


@dataclass(frozen=True, slots=True)
class StageVerdict:
    """One stage of one case."""

    stage: str
    rms: float
    worst: float
    max: float
    noise_rms: float
    noise_worst: float
    allowed_rms: float
    allowed_worst: float
    ok: bool
    at: Place | None
    """The first place beyond what is allowed; the worst when only all together are."""
    mismatch: str
    kl_mean: float | None
    kl_max: float | None
    """Nats; of scores only."""
    errors: tuple[float, ...]
    """Largest errors of consecutive vectors, for a plot."""
    noise: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """The error in multiples of the noise, of which `MULTIPLE` are allowed; of two measures the larger."""
        return MULTIPLE * max(self.rms / self.allowed_rms, self.worst / self.allowed_worst)


@dataclass(frozen=True, slots=True)
class FlipVerdict:
    """A token that is another than the oracle's."""

    flip: Flip
    allowed: float
    """Margin of scores up to which rounding explains it."""

    @property
    def is_noise(self) -> bool:
        return self.flip.margin <= self.allowed


@dataclass(frozen=True, slots=True)
class CaseVerdict:
    """One case."""

    name: str
    stages: tuple[StageVerdict, ...]
    compared: int
    """Tokens."""
    flips: tuple[FlipVerdict, ...]
    left_out: str = ""
    failed: str = ""

    @property
    def agreed(self) -> int:
        """Tokens that are the oracle's."""
        return self.compared - len(self.flips)

    @property
    def ok(self) -> bool:
        stages_ok = all(each.ok for each in self.stages)
        return not self.failed and stages_ok and all(each.is_noise for each in self.flips)


@dataclass(frozen=True, slots=True)
class Divergence:
    """Where a backend first computes something else."""

    stage: str
    case: str
    place: Place | None
    reason: str

    def __str__(self) -> str:
        at = "" if self.place is None else f", {self.place}"
        return f"{self.stage}, in case {self.case}{at}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """All cases."""

    cases: tuple[CaseVerdict, ...]
    first: Divergence | None = None
    layers: tuple[CaseVerdict, ...] = field(default=())
    """The case of the first divergence with every layer, where a stage of layers diverged."""

    @property
    def ok(self) -> bool:
        return self.first is None


def order(stage: str) -> tuple[int, float]:
    """Return a key that sorts stages by computation, layers before the stage they make up."""
    name, _, layer = stage.partition(".")
    return STAGES.index(name) if name in STAGES else len(STAGES), float(layer) if layer else math.inf


def judged(names: Sequence[str], tested: Outcome, noise: Outcome, bar: Bar) -> tuple[CaseVerdict, ...]:
    """Compare the backend's errors with those of the oracle, case by case."""
    usual = _usual_noise(noise)
    return tuple(_case(name, tested, noise, usual, bar) for name in names)


def first_divergence(cases: tuple[CaseVerdict, ...]) -> Divergence | None:
    """Return what is earliest in the computation, and among equals in the earliest case."""
    found: list[tuple[tuple[int, float], Divergence]] = []
    for case in cases:
        found += [(order(each.stage), _diverged(case, each)) for each in case.stages if not each.ok]
        for each in case.flips:
            if not each.is_noise:
                found.append((order(TOKENS), _flipped(case, each)))
        if case.failed:
            found.append((order("failure"), Divergence("failure", case.name, None, case.failed)))
    return min(found, key=lambda each: each[0])[1] if found else None


def _usual_noise(noise: Outcome) -> dict[str, tuple[float, float]]:
    """Return the root mean square over all cases of each stage's noise, as a whole and at worst."""
    by_stage: defaultdict[str, list[Measure]] = defaultdict(list)
    for stages in noise.measures.values():
        for stage, measure in stages.items():
            by_stage[stage].append(measure)
    return {
        stage: (_mean_square([each.rms for each in found]), _mean_square([each.worst for each in found]))
        for stage, found in by_stage.items()
    }


def _mean_square(values: list[float]) -> float:
    return math.sqrt(sum(value**2 for value in values) / len(values))


def _case(
    name: str, tested: Outcome, noise: Outcome, usual: Mapping[str, tuple[float, float]], bar: Bar
) -> CaseVerdict:
    left_out = tested.left_out.get(name) or noise.left_out.get(name, "")
    mine, other = tested.measures.get(name, {}), noise.measures.get(name, {})
    stages = [
        _stage(stage, mine[stage], other[stage], usual[stage], bar)
        for stage in sorted(mine, key=order)
        if stage in other
    ]
    flips = [
        FlipVerdict(flip, 2 * bar.multiple * max(other[stage].most, bar.roundoff * other[stage].height))
        for stage in (PREFILL_LOGITS, DECODE_LOGITS)
        if stage in mine and stage in other
        for flip in mine[stage].flips
    ]
    compared = sum(len(mine[stage].kl) for stage in (PREFILL_LOGITS, DECODE_LOGITS) if stage in mine)
    return CaseVerdict(name, tuple(stages), compared, tuple(flips), left_out, tested.failed.get(name, ""))


def _stage(stage: str, mine: Measure, noise: Measure, usual: tuple[float, float], bar: Bar) -> StageVerdict:
    # A case of few numbers may round luckily, so its noise counts as no less than what is usual for the stage.
    allowed_rms = bar.multiple * max(noise.rms, usual[0], bar.roundoff)
    allowed_worst = bar.multiple * max(noise.worst, usual[1], bar.roundoff)
    ok = mine.rms <= allowed_rms and mine.worst <= allowed_worst
    return StageVerdict(
        stage=stage,
        rms=mine.rms,
        worst=mine.worst,
        max=mine.max,
        noise_rms=noise.rms,
        noise_worst=noise.worst,
        allowed_rms=allowed_rms,
        allowed_worst=allowed_worst,
        ok=ok,
        at=None if ok else _first_place(mine, allowed_worst),
        mismatch=mine.mismatch,
        kl_mean=sum(mine.kl) / len(mine.kl) if mine.kl else None,
        kl_max=max(mine.kl, default=None),
        errors=_binned(mine.errors),
        noise=_binned(noise.errors),
    )


def _first_place(measure: Measure, allowed: float) -> Place | None:
    for place, error in zip(measure.places, measure.errors, strict=True):
        if not error <= allowed:
            return place
    return measure.places[measure.errors.index(max(measure.errors))] if measure.errors else None


def _binned(errors: list[float]) -> tuple[float, ...]:
    size = -(-len(errors) // BINS) or 1
    return tuple(max(errors[start : start + size]) for start in range(0, len(errors), size))


def _diverged(case: CaseVerdict, stage: StageVerdict) -> Divergence:
    if stage.mismatch:
        return Divergence(stage.stage, case.name, None, stage.mismatch)
    reason = (
        f"error {stage.rms:.2g} of the signal and {stage.worst:.2g} at worst, where rounding explains "
        f"{stage.allowed_rms:.2g} and {stage.allowed_worst:.2g}"
    )
    return Divergence(stage.stage, case.name, stage.at, reason)


def _flipped(case: CaseVerdict, each: FlipVerdict) -> Divergence:
    flip = each.flip
    reason = (
        f"token {flip.got} in the place of {flip.wanted}, which the oracle prefers by {flip.margin:.2g}, where "
        f"rounding explains {each.allowed:.2g}"
    )
    return Divergence(TOKENS, case.name, flip.place, reason)
