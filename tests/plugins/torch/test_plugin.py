"""What the plugin declares, and what its options come to."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import runtime_torch
import torch
from packaging.specifiers import SpecifierSet
from runtime.backend import CONTRACT_VERSION, BackendSpec, DecodeBatch, DecodeShape, Limits
from runtime.model import read_model
from runtime_torch import threads
from runtime_torch.cpu import Cpu
from support.checkpoints import DEMO

DEFAULTS = {option.name: option.default for option in runtime_torch.OPTIONS}
LIMITS = Limits(rows=1, context=64, prefill_rows=1, prefill_tokens=32, options=DEFAULTS)


ONE_TOKEN = DecodeBatch(DecodeShape(1, 64), torch.tensor([5]), torch.tensor([0]), torch.tensor([True]))


def loaded(**options: Any) -> Cpu:
    """The demo model with these options."""
    backend = runtime_torch.load(read_model(DEMO), replace(LIMITS, options={**DEFAULTS, **options}))
    assert isinstance(backend, Cpu)
    return backend


@pytest.fixture(autouse=True)
def _unsettled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The threads of the tests stay as they are."""
    monkeypatch.setattr(threads, "settle_threads", lambda count: count)


def spec() -> BackendSpec:
    """Of the backend for the CPU."""
    (found,) = [spec for spec in runtime_torch.runtime_backends() if spec.name == "cpu"]
    return found


def test_a_backend_for_any_machine_is_offered() -> None:
    """It speaks the contract of this version, takes any shape, and `auto` may take it."""
    assert spec().name == "cpu"
    assert CONTRACT_VERSION in SpecifierSet(spec().contract)
    assert spec().preference > 0
    assert not spec().static_shapes


def test_it_runs_anywhere() -> None:
    """The facts are told that an operator may wonder about."""
    availability = spec().probe()
    assert availability.ok
    assert availability.details == {
        "device": "cpu",
        "torch": torch.__version__,
        "dtype": runtime_torch.best_dtype(),
    }


@pytest.mark.parametrize(
    ("answers", "dtype"),
    [
        ({"_is_avx512_bf16_supported": True, "_is_amx_tile_supported": False}, "bfloat16"),
        ({"_is_avx512_bf16_supported": False, "_is_amx_tile_supported": True}, "bfloat16"),
        ({"_is_avx512_bf16_supported": False, "_is_amx_tile_supported": False}, "float32"),
        ({}, "float32"),  # a PyTorch that does not tell
    ],
)
def test_dtype_follows_the_processor(answers: dict[str, bool], dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """bf16 only where there are instructions for it, and told by the probe."""
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        if name in answers:
            monkeypatch.setattr(torch.cpu, name, told(answers[name]), raising=False)
        else:
            monkeypatch.delattr(torch.cpu, name, raising=False)
    assert spec().probe().details["dtype"] == dtype
    assert loaded().decode(ONE_TOKEN).logits.dtype is getattr(torch, dtype)


def told(answer: bool) -> Callable[[], bool]:
    return lambda: answer


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_dtype_can_be_chosen(dtype: str) -> None:
    """Whatever the processor can."""
    assert loaded(dtype=dtype).decode(ONE_TOKEN).logits.dtype is getattr(torch, dtype)


@pytest.mark.parametrize("count", [None, 3])
def test_threads_are_settled_before_the_weights_are_loaded(count: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the thread that loads, which is the one that computes."""
    settled: list[tuple[int | None, int]] = []
    monkeypatch.setattr(threads, "settle_threads", lambda given: settled.append((given, threading.get_ident())))
    loaded(threads=count)
    assert settled == [(count, threading.get_ident())]


def test_it_can_resume() -> None:
    """So that prompts can be computed in parts, and their beginnings be reused."""
    capacity = loaded().capacity()
    assert (capacity.rows, capacity.context, capacity.resumes) == (1, 64, True)
