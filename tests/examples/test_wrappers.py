"""The three wrappers of examples/, around backends whose answers are known."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from runtime.backend import DecodeOutput, Limits
from runtime.errors import BackendError
from runtime.hookspecs import hookimpl
from runtime.plugins import Hooks
from runtime_cpu_reference.backend import CpuReference
from runtime_wrappers.faults import Faults
from runtime_wrappers.shadow import Shadow
from runtime_wrappers.timing import Timing
from support.arithmetic import ArithmeticBackend
from support.driver import LIMITS, Driver, Prompt
from support.serving import MODEL

TEXT = Prompt(torch.tensor([1, 40, 500, 77]), None)


def driver(wrapper: object, backend: Any = None) -> Driver:
    """Plays core's part with a wrapped backend, sums by default."""
    return Driver(Hooks("wrapped", backend or ArithmeticBackend(MODEL.vocabulary, LIMITS), MODEL, LIMITS, [wrapper]))


def test_timing_counts_calls_and_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that goes on by a second each time it is read: one second for each call."""
    clock = iter(range(100))
    monkeypatch.setattr("runtime_wrappers.timing.time.perf_counter", lambda: next(clock))
    driven = driver(Timing(MODEL, LIMITS))
    driven.join({0: TEXT})
    for _ in range(3):
        driven.step()
    wanted = {"prefill_calls": 1, "prefill_seconds": 1, "decode_calls": 3, "decode_seconds": 3}
    assert driven.backend.stats() == wanted


def test_timing_keeps_the_backend_s_own_counters() -> None:
    """They are told together."""

    class Counting(ArithmeticBackend):
        @hookimpl
        def stats(self) -> dict[str, float]:
            return {"graphs": 7}

    driven = driver(Timing(MODEL, LIMITS), Counting(MODEL.vocabulary, LIMITS))
    assert driven.backend.stats()["graphs"] == 7


def test_faults_by_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every second step here: one that works, an error, one that works, no numbers in the first active row."""
    monkeypatch.setenv("FAULTS_EVERY", "2")
    driven = driver(Faults(MODEL, LIMITS))
    driven.join({1: TEXT, 3: TEXT})
    assert not driven.step()[[1, 3]].isnan().any()
    with pytest.raises(BackendError, match="backend wrapped failed in decode"):
        driven.step()
    assert not driven.step()[[1, 3]].isnan().any()
    logits = driven.step()
    assert logits[1].isnan().all()
    assert not logits[3].isnan().any()


@pytest.mark.parametrize("every", ["0", "some"])
def test_faults_that_cannot_be(monkeypatch: pytest.MonkeyPatch, every: str) -> None:
    """Refused at the start."""
    monkeypatch.setenv("FAULTS_EVERY", every)
    with pytest.raises(ValueError, match=every):
        Faults(MODEL, LIMITS)


class Flipped(CpuReference):
    """Right, but for one step that prefers token 9 by far."""

    steps = 0

    @hookimpl
    def decode(self, batch: Any) -> DecodeOutput:
        output = super().decode(batch)
        self.steps += 1
        if self.steps == 2:
            output.logits[:, 9] = 1000.0
        return output


def test_shadow_tells_where_the_best_token_differs(caplog: pytest.LogCaptureFixture) -> None:
    """One step of one row; what the other rows and steps have is the same."""
    driven = driver(Shadow(MODEL, LIMITS), Flipped(MODEL, LIMITS))
    driven.join({2: TEXT})
    driven.step()
    with caplog.at_level(logging.WARNING):
        driven.step()
    (told,) = caplog.messages
    assert told.startswith("slot 2, position 5: token 9, the reference has ")
    driven.replies[2][-1] = 5  # whatever was chosen, both are given the same
    driven.step()
    assert driven.backend.stats() == {"shadow_rows": 4, "shadow_differing": 1}


def test_shadow_does_not_follow_prompts_in_parts() -> None:
    """The reference cannot; the row goes on by itself, and the next prompt in its slot is followed again."""
    shadow = Shadow(MODEL, LIMITS)
    driven = driver(shadow, CpuReference(MODEL, LIMITS))
    driven.join({0: TEXT})
    shadow._followed.clear()  # as after a prefill with an offset
    driven.step()
    assert driven.backend.stats()["shadow_rows"] == 1
    driven.leave(0)
    driven.join({0: TEXT})
    driven.step()
    assert driven.backend.stats() == {"shadow_rows": 3, "shadow_differing": 0}


def test_shadow_that_fails_ends_nothing(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and the row is not followed any more."""
    shadow = Shadow(MODEL, Limits(rows=4, context=512, prefill_rows=4, prefill_tokens=400))
    driven = driver(shadow, CpuReference(MODEL, LIMITS))
    driven.join({0: TEXT})

    def fail(batch: Any) -> Any:
        raise RuntimeError("told to fail")

    monkeypatch.setattr(shadow._reference, "decode", fail)
    driven.step()
    driven.step()
    assert caplog.messages == ["the reference failed in decode"]
    assert len(driven.replies[0]) == 3
