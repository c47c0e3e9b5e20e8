"""What a device makes of a model, held against the host."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from runtime.backend import Limits, ModelSpec
from runtime.static import self_test as self_test_module
from runtime.static.backend import StaticBackend
from runtime.static.device import Host
from runtime.static.kernels import TorchStaticKernels
from runtime.static.self_test import self_test
from support.agreement import NOISE
from support.recorded import RecordedRunner


def on_the_host(dtype: torch.dtype, kernels: TorchStaticKernels) -> Callable[[ModelSpec, Limits], StaticBackend]:
    def build(model: ModelSpec, limits: Limits) -> StaticBackend:
        return StaticBackend(model, limits, dtype, Host(), kernels, RecordedRunner(), 0)

    return build


class Wrong(TorchStaticKernels):
    """Scores of attention without their scale."""

    def attend_causal(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=1.0, enable_gqa=True
        )


def test_every_model_agrees_with_itself(model: ModelSpec) -> None:
    """With pictures and without."""
    found = self_test(model, on_the_host(torch.float32, TorchStaticKernels()))
    assert found.model == "this model"
    assert max(found.prefill, found.decode) < NOISE
    assert found.same_tokens


def test_what_rounding_does_shows(small: ModelSpec) -> None:
    """More than noise, and less than a mistake."""
    found = self_test(small, on_the_host(torch.bfloat16, TorchStaticKernels()))
    assert NOISE < max(found.prefill, found.decode) < 0.5


def test_a_mistake_shows(small: ModelSpec) -> None:
    """In the step that it is in, and in what follows from its keys."""
    found = self_test(small, on_the_host(torch.float32, Wrong()))
    assert found.prefill > 0.5
    assert str(found).startswith(f"this model: prefill {found.prefill:.4f}, decode {found.decode:.4f} deviations off, ")


def test_a_large_model_is_replaced_by_the_bundled_one(small: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the host would take too long."""
    monkeypatch.setattr(self_test_module, "SMALL", 1000)
    found = self_test(small, on_the_host(torch.float32, TorchStaticKernels()))
    assert found.model == "bundled model"
    assert max(found.prefill, found.decode) < NOISE


def test_nothing_is_left_of_it(small: ModelSpec) -> None:
    """The graphs are given back."""
    runners: list[RecordedRunner] = []

    def build(model: ModelSpec, limits: Limits) -> StaticBackend:
        runners.append(RecordedRunner())
        return StaticBackend(model, limits, torch.float32, Host(), TorchStaticKernels(), runners[0], 0)

    self_test(small, build)
    assert runners[0].replays > 0
    assert runners[0].tapes == {}
