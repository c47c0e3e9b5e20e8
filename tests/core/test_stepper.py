"""One step, from rows to outcomes, on the arithmetic backend."""

from __future__ import annotations

import math

import pytest
import torch
from runtime.batches import AnyShapes
from runtime.budgets import Demand
from runtime.errors import InvalidRequest
from runtime.plugins import Hooks
from runtime.row import Row
from runtime.runtime import Candidate, Delta, SamplingParameters, StoppingParameters
from runtime.sampling.matcher import Matcher
from runtime.sampling.stopping import StopRule
from runtime.stepper import Stepper, _on_device
from runtime.telemetry.metrics import Metrics
from support.apart import Apart
from support.arithmetic import EOS, ArithmeticBackend
from support.serving import LIMITS, MODEL, TOKENIZER


class OnlyIds(Matcher):
    """Allows some ids, and refuses to go on after the first token."""

    def __init__(self, *ids: int) -> None:
        self.ids = ids

    def mask(self) -> bytes:
        return sum(1 << id for id in self.ids).to_bytes(104, "little")

    def advance(self, token: int) -> None:
        if token != self.ids[0]:
            raise InvalidRequest("refused")


def row(slot: int, top_n: int = 0, matcher: Matcher | None = None) -> Row:
    """A greedy row that would answer 601, 602: see the backend's docstring."""
    prompt = (1, 500, 600)
    return Row(
        key=slot,
        prompt=prompt,
        images=None,
        demand=Demand(len(prompt), LIMITS.context),
        sampling=SamplingParameters(),
        seed=0,
        stop_rule=StopRule.of(StoppingParameters(max_new_tokens=5), 9, frozenset({EOS})),
        vocabulary=TOKENIZER,
        top_n=top_n,
        matcher=matcher,
        slot=slot,
    )


def stepper() -> Stepper:
    metrics = Metrics(LIMITS.prefill_tokens, LIMITS.context, LIMITS.rows)
    hooks = Hooks("arithmetic", ArithmeticBackend(MODEL.vocabulary, LIMITS), MODEL, LIMITS)
    return Stepper(hooks, AnyShapes(LIMITS), metrics)


def test_candidates_come_with_their_texts() -> None:
    """1/2 for 601, 1/4 for 602; each with the text it would add, special tokens included."""
    wanted = row(0, top_n=2)
    ((_, delta),) = stepper().prefill([wanted])[0].outcomes
    assert isinstance(delta, Delta)
    prompt = TOKENIZER.decode(wanted.prompt, False)
    expected = [
        Candidate(id, TOKENIZER.decode([*wanted.prompt, id], False).removeprefix(prompt), math.log(p), False)
        for id, p in ((601, 1 / 2), (602, 1 / 4))
    ]
    for got, known in zip(delta.tokens[0].top, expected, strict=True):
        assert (got.id, got.text, got.special) == (known.id, known.text, known.special)
        assert got.logprob == pytest.approx(known.logprob, abs=1e-5)


def test_end_of_sequence_is_told_as_a_candidate() -> None:
    """Its text is kept, and it is marked as special."""
    ((_, delta),) = stepper().prefill([row(0, top_n=1, matcher=OnlyIds(EOS))])[0].outcomes
    assert isinstance(delta, Delta)
    assert delta.tokens[0].top == (Candidate(EOS, "</s>", 0.0, True),)


def test_grammar_that_fails_costs_its_row_only() -> None:
    """The neighbour gets its token; the row whose grammar refuses gets the error."""
    rows = [row(0), row(1, matcher=OnlyIds(410, 603))]
    step, _ = stepper().prefill(rows)
    (_, first), (_, second) = step.outcomes
    assert isinstance(first, Delta)
    assert first.tokens[0].id == 601
    assert isinstance(second, InvalidRequest)
    assert step.live_rows == rows[:1]


def test_slots_are_copied_to_the_device_once() -> None:
    """For the steps of the same rows: each copy would wait for the step that was just launched."""
    device = torch.device("meta")
    with Apart() as apart:
        index = _on_device((3, 1), device)
        assert _on_device((3, 1), device) is index
        assert _on_device((1, 3), device) is not index
    assert apart.copies == 2
    assert index.shape == (2,)
    assert index.dtype is torch.int64
