"""The whole comparison: reference, backend, noise; and the layers of the stage that diverges first."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from runtime.backend import Limits, ModelSpec, ShapePlan, Value
from runtime.errors import StartupError
from runtime.verify.cases import MEANINGS
from runtime.verify.run import Outcome, Role, Task, Tell
from runtime.verify.verdict import LAYERED, Bar, Divergence, Verdict, first_divergence, judged

REFERENCE_DTYPE: Final = "reference_dtype"
"""The option of an oracle that says what it computes in."""
REFERENCE: Final = "float32"
"""What the reference is computed in."""
WIDER: Final = {"float32": "float64", "float64": "float64"}
"""What tells the noise of the reference's own dtype: the same in a wider one."""

Perform = Callable[[Task, Tell], Outcome]


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be verified."""

    backend: str
    oracle: str
    model: ModelSpec
    limits: Limits
    """With the options of the backend."""
    oracle_options: Mapping[str, Value]
    longest: int
    """Tokens of the longest prompt."""
    plan: ShapePlan | None
    """None for a backend that takes any shape."""
    cases: tuple[str, ...] = tuple(MEANINGS)
    layers: bool = False
    """Whether every layer is compared, in every case."""
    seed: int = 0
    noise_dtype: str | None = None
    """By default what the backend computes in."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one run is."""

    role: Role
    done: int
    """Cases; 0 while the model is loaded."""
    total: int
    layers: bool


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found, and on which ground."""

    verdict: Verdict
    dtype: str
    """What the backend was taken to compute in."""
    noise_dtype: str
    """What the oracle computed the noise in."""
    tells_stages: bool
    details: Mapping[str, str]
    """What the backend says of itself."""


def verify(question: Question, perform: Perform, tell: Callable[[Progress], None]) -> Finding:
    """Compare a backend with the oracle; `tell` hears of every model that is loaded and every case that is done.

    The reference lies in a temporary folder meanwhile. Raises what `perform` raises, and StartupError for a dtype that
    the oracle does not know.
    """
    comparison = _compare(question, question.cases, question.layers, perform, tell)
    first = comparison.verdict.first
    if first is None or question.layers or first.stage not in LAYERED:
        return comparison
    inner = _compare(question, (first.case,), True, perform, tell).verdict
    named = _named(first, inner)
    return replace(comparison, verdict=replace(comparison.verdict, first=named, layers=inner.cases))


def _named(first: Divergence, inner: Verdict) -> Divergence:
    """Return the divergence of the earliest layer, where one was told."""
    found = inner.first
    return found if found is not None and found.stage.startswith(f"{first.stage}.") else first


def _compare(
    question: Question, names: tuple[str, ...], layers: bool, perform: Perform, tell: Callable[[Progress], None]
) -> Finding:
    with tempfile.TemporaryDirectory(prefix="runtime-verify-") as folder:

        def run(role: Role, dtype: str) -> Outcome:
            done = itertools.count(1)
            tell(Progress(role, 0, len(names), layers))
            task = _task(question, names, layers, Path(folder), role, dtype)
            return perform(task, lambda _case: tell(Progress(role, next(done), len(names), layers)))

        left_out = run(Role.REFERENCE, REFERENCE).left_out
        runnable = tuple(name for name in names if name not in left_out)
        tested = run(Role.TESTED, "") if runnable else Outcome(dtype=REFERENCE)
        tested.left_out |= left_out
        dtype = question.noise_dtype or tested.dtype or REFERENCE
        noise_dtype = WIDER.get(dtype, dtype)
        noise = run(Role.NOISE, noise_dtype) if runnable else Outcome()
    cases = judged(names, tested, noise, Bar.of(dtype, REFERENCE))
    return Finding(Verdict(cases, first_divergence(cases)), dtype, noise_dtype, tested.tells_stages, tested.details)


def _task(question: Question, names: tuple[str, ...], layers: bool, folder: Path, role: Role, dtype: str) -> Task:
    limits = question.limits
    if role is not Role.TESTED:
        if REFERENCE_DTYPE not in question.oracle_options:
            raise StartupError(
                f"backend {question.oracle} cannot be the oracle: it has no option {REFERENCE_DTYPE}, so its rounding "
                "cannot be measured; leave out --against"
            )
        limits = replace(limits, options={**question.oracle_options, REFERENCE_DTYPE: dtype})
    return Task(
        backend=question.backend if role is Role.TESTED else question.oracle,
        model=question.model,
        limits=limits,
        folder=folder,
        cases=names,
        longest=question.longest,
        seed=question.seed,
        layers=layers,
        plan=question.plan,
        role=role,
    )
