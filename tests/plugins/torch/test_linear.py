"""Linear layers and dense attention on the CPU, against the formula in float64."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
from runtime_torch.linear import CpuKernels, can_pack, packed

DTYPES = [torch.float32, torch.bfloat16]
ROUNDING = {torch.float32: 1e-5, torch.bfloat16: 2e-2}
"""Of results of about 1."""


@pytest.fixture(autouse=True)
def _forgetful() -> Iterator[None]:
    """The probe is asked anew before and after each test."""
    can_pack.cache_clear()
    yield
    can_pack.cache_clear()


def random(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("with_bias", [False, True], ids=["plain", "bias"])
@pytest.mark.parametrize("tokens", [1, 3, 200])
@pytest.mark.parametrize("works", [True, False], ids=["packed", "fallback"])
def test_linear(works: bool, tokens: int, with_bias: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """x W^T + b, for a token and for many, whether weights can be laid out beforehand or not."""
    if not works:
        monkeypatch.setattr("runtime_torch.linear.can_pack", lambda _dtype: False)
    weight, x = random(96, 64, dtype=dtype) / 8, random(tokens, 64, dtype=dtype)
    bias = random(96, dtype=dtype) if with_bias else None
    result = CpuKernels().linear(weight, bias)(x)
    wanted = x.double() @ weight.double().t() + (0 if bias is None else bias.double())
    assert result.dtype is dtype
    assert torch.allclose(result.double(), wanted, rtol=ROUNDING[dtype], atol=ROUNDING[dtype])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_packed_weights_are_a_copy(dtype: torch.dtype) -> None:
    """The checkpoint's tensor may be dropped, or overwritten."""
    weight = random(64, 64, dtype=dtype)
    linear, x = packed(weight, None), random(2, 64, dtype=dtype)
    before = linear(x)
    weight.zero_()
    assert torch.equal(linear(x), before)


@pytest.mark.parametrize("error", [RuntimeError("no oneDNN"), AttributeError("_reorder"), NotImplementedError()])
def test_machine_without_packing(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Is noticed once, told, and served all the same."""

    def refuse(*_arguments: object) -> torch.Tensor:
        raise error

    monkeypatch.setattr(torch.ops, "mkldnn", SimpleNamespace(_reorder_linear_weight=refuse))
    for _ in range(2):
        assert not can_pack(torch.float32)
    (record,) = caplog.records
    assert "cannot be prepacked" in record.getMessage()
    x = random(2, 8, dtype=torch.float32)
    assert torch.equal(CpuKernels().linear(torch.eye(8), None)(x), x)


def test_packing_that_computes_wrongly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Is not used."""
    operators = SimpleNamespace(
        _reorder_linear_weight=lambda weight, _batch: weight,
        _linear_pointwise=lambda x, weight, *_: x @ weight,  # not transposed
    )
    monkeypatch.setattr(torch.ops, "mkldnn", operators)
    assert not can_pack(torch.float32)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_attention_of_the_vision_tower(dtype: torch.dtype) -> None:
    """softmax(q k^T / sqrt(d)) v, every query seeing every key."""
    query, key, value = (random(2, 3, length, 16, dtype=dtype) for length in (7, 9, 9))
    seen = CpuKernels().attend(query, key, value)
    scores = query.double() @ key.double().transpose(-1, -2) / 16**0.5
    wanted = scores.softmax(-1) @ value.double()
    assert torch.allclose(seen.double(), wanted, rtol=ROUNDING[dtype], atol=ROUNDING[dtype])
