"""The comparison as a whole, of backends that are odd in other ways than their numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from runtime.backend import Capacity, DecodeBatch, DecodeOutput, Limits, ModelSpec, PrefillBatch, PrefillOutput, Prefix
from runtime.errors import DeviceLost, StartupError
from runtime.hookspecs import hookimpl
from runtime.plugins import Hooks
from runtime.verify.measures import Place
from runtime.verify.run import DECODE_LOGITS, PREFILL_LOGITS, Outcome, Role, Task, Tell, perform
from runtime.verify.verification import Progress, Question, verify
from support.verifying import LIMITS, Verifier, cpu

FP32 = torch.float32


class Silent:
    """A backend without stages, around one that has them; and one that computes whole prompts only."""

    def __init__(self, model: ModelSpec, limits: Limits, dtype: torch.dtype) -> None:
        self.inner = cpu(model, limits, dtype)

    @hookimpl
    def prefill(self, batch: PrefillBatch) -> PrefillOutput:
        return self.inner.prefill(batch)

    @hookimpl
    def concatenate(self, prefix: Prefix[Any], placements: Sequence[Any]) -> None:
        self.inner.concatenate(prefix, placements)

    @hookimpl
    def decode(self, batch: DecodeBatch) -> DecodeOutput:
        return self.inner.decode(batch)


class Failing(Silent):
    """Fails with pictures."""

    @hookimpl
    def prefill(self, batch: PrefillBatch) -> PrefillOutput:
        if any(images is not None for images in batch.images):
            raise RuntimeError("no eyes")
        return super().prefill(batch)


class Lost(Silent):
    @hookimpl
    def decode(self, batch: DecodeBatch) -> DecodeOutput:
        raise DeviceLost("the device failed")


class Few(Silent):
    @hookimpl
    def capacity(self) -> Capacity:
        return Capacity(2, LIMITS.context)


class Told(Silent):
    @hookimpl
    def capacity(self) -> Capacity:
        return Capacity(LIMITS.rows, LIMITS.context, details={"compute_dtype": "bfloat16", "mode": "test"})


class OneStage(Silent):
    """Tells one stage that is right and one that nobody knows."""

    @hookimpl
    def stages(self, batch: PrefillBatch) -> Mapping[str, torch.Tensor]:
        return {"embeddings": self.inner.stages(batch, layers=False)["embeddings"], "mood": torch.zeros(3)}


class LateFault(Silent):
    """Says another token at one place."""

    @hookimpl
    def decode(self, batch: DecodeBatch) -> DecodeOutput:
        logits = super().decode(batch).logits
        if int(batch.positions[0]) == 30:
            logits = logits.roll(1, -1)
        return DecodeOutput(logits)


def test_without_stages_scores_are_judged(verifier: Verifier) -> None:
    """And what takes a backend that resumes is left out."""
    finding = verifier.verify(Silent, FP32)
    assert finding.verdict.ok
    assert not finding.tells_stages
    for case in finding.verdict.cases:
        if case.name == "chunked":
            assert case.left_out == "the backend computes whole prompts only"
        else:
            assert [stage.stage for stage in case.stages] == [PREFILL_LOGITS, DECODE_LOGITS]


def test_fault_of_one_step_is_placed(verifier: Verifier) -> None:
    """Case and position are named, and the steps after it are right again, as they go on with the oracle's tokens."""
    finding = verifier.verify(LateFault, FP32, cases=("long-decode",))
    first = finding.verdict.first
    assert first is not None
    assert (first.stage, first.case, first.place) == (DECODE_LOGITS, "long-decode", Place(0, None, 30))
    (case,) = finding.verdict.cases
    (decode,) = [stage for stage in case.stages if stage.stage == DECODE_LOGITS]
    assert sum(error > decode.allowed_worst for error in decode.errors) == 1
    assert [each.flip.place.position for each in case.flips] == [30]


def test_some_stages_are_compared(verifier: Verifier) -> None:
    """Those that oracle and backend both tell."""
    (case,) = verifier.verify(OneStage, FP32, cases=("one-picture",)).verdict.cases
    assert [stage.stage for stage in case.stages] == ["embeddings", PREFILL_LOGITS, DECODE_LOGITS]


def test_failing_case_does_not_end_the_others(verifier: Verifier) -> None:
    """It is told with the backend's error, and the verdict is no."""
    finding = verifier.verify(Failing, FP32, cases=("text", "one-picture", "longest"))
    text, picture, longest = finding.verdict.cases
    assert text.ok
    assert longest.ok
    assert picture.failed == "backend tested failed in prefill; the server's log has the cause"
    assert finding.verdict.first is not None
    assert finding.verdict.first.stage == "failure"


def test_lost_device_ends_it(verifier: Verifier) -> None:
    """Nothing that comes after it can be relied on."""
    with pytest.raises(DeviceLost):
        verifier.verify(Lost, FP32, cases=("text",))


def test_fewer_rows_than_asked_for_are_refused(verifier: Verifier) -> None:
    """Both must get the same batches; the flags that make it possible are told."""
    with pytest.raises(StartupError, match="affords 2 rows of 256 tokens, not 4 of 256; add --max-batch-size 2"):
        verifier.verify(Few, FP32, cases=("text",))


def test_backend_says_what_it_computes_in(verifier: Verifier) -> None:
    """That is believed before its tensors are; what it says of itself is told."""
    finding = verifier.verify(Told, FP32, cases=("text",))
    assert (finding.dtype, finding.noise_dtype) == ("bfloat16", "bfloat16")
    assert finding.details["mode"] == "test"


def test_type_may_be_stated(verifier: Verifier) -> None:
    """A backend in bf16 does not pass as one in fp32."""
    assert verifier.verify(cpu, torch.bfloat16, cases=("text",)).verdict.ok
    finding = verifier.verify(cpu, torch.bfloat16, cases=("text",), noise_dtype="float32")
    assert not finding.verdict.ok
    assert (finding.dtype, finding.noise_dtype) == ("float32", "float64")


def test_every_layer_on_demand(verifier: Verifier, model: ModelSpec) -> None:
    """In the order of computation, those that the features need."""
    (case,) = verifier.verify(cpu, FP32, cases=("one-picture",), layers=True).verdict.cases
    tower = [f"vision.{layer}" for layer in range(4)]
    decoder = [f"decoder.{layer}" for layer in range(1, model.layers + 1)]
    assert [stage.stage for stage in case.stages] == [
        *("pixels", *tower, "vision", "projector", "embeddings"),
        *(*decoder, "decoder", PREFILL_LOGITS, DECODE_LOGITS),
    ]
    assert case.ok


def test_progress_is_told(model: ModelSpec, verifier: Verifier) -> None:
    """Each of the three runs, from loading on; one model at a time."""
    told: list[Progress] = []

    def run(task: Task, tell: Tell) -> Outcome:
        if task.role is not Role.TESTED:
            tell("text")
            return verifier.oracle(task, lambda _case: None)
        return perform(task, Hooks("cpu", cpu(model, task.limits, FP32), model, task.limits), tell)

    question = Question("cpu", "oracle", model, LIMITS, {"reference_dtype": None}, 240, None, ("text",))
    verify(question, run, told.append)
    assert [(each.role, each.done, each.total) for each in told] == [
        (role, done, 1) for role in (Role.REFERENCE, Role.TESTED, Role.NOISE) for done in (0, 1)
    ]


def test_oracle_must_know_types(model: ModelSpec) -> None:
    """Without them there is no noise to judge by."""

    def run(task: Task, tell: Tell) -> Outcome:
        raise AssertionError

    question = Question("a", "b", model, LIMITS, {}, 240, None)
    with pytest.raises(StartupError, match="backend b cannot be the oracle: it has no option reference_dtype"):
        verify(question, run, lambda progress: None)


def test_nothing_possible_is_no_failure(text_model: ModelSpec, verifier: Verifier) -> None:
    """A case that the model does not allow is left out before anything else is loaded."""
    other = replace(verifier, model=text_model, known={})
    finding = other.verify(cpu, FP32, cases=("one-picture",))
    (case,) = finding.verdict.cases
    assert case.left_out == "the model sees no pictures"
    assert finding.verdict.ok
