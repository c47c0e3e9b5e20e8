"""The fused kernels against plain formulas in float32; the vendor's cases and tolerances, in our words.

Vendor: tests/pytest_working/any_mode/FusedSDPA, test_hpu_rms_norm.py, test_hpu_rotary_pos_embedding_helper.py.
"""

from __future__ import annotations

import math
from typing import Any

import habana_frameworks.torch as bridge
import pytest
import torch
from habana_frameworks.torch.hpex.kernels import (
    CustomSoftmax,
    FusedSDPA,
    RotaryPosEmbeddingHelperV1,
    RotaryPosEmbeddingHelperV2,
    RotaryPosEmbeddingMode,
    apply_rotary_pos_emb,
)
from habana_frameworks.torch.hpex.normalization import FusedRMSNorm
from torch import Tensor
from virtual_device import counters
from virtual_device.release import RELEASE

NEWEST = RELEASE.name == "1.23"
BATCH, HEADS, QUERIES, KEYS, WIDTH = 2, 4, 5, 7, 8


def attend(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor, bias: Tensor | float = 0.0) -> Tensor:
    """Attention by its formula, one query head after the other."""
    heads = []
    for head in range(q.shape[1]):
        group = head * k.shape[1] // q.shape[1]
        scores = torch.einsum("bqd,bkd->bqk", q[:, head], k[:, group]) / math.sqrt(q.shape[-1]) + bias
        weights = torch.where(allowed, scores, -torch.inf).exp()
        heads.append(torch.einsum("bqk,bkd->bqd", weights / weights.sum(-1, keepdim=True), v[:, group]))
    return torch.stack(heads, 1)


def random_attention(key_heads: int = HEADS, queries: int = QUERIES) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of one dtype."""
    torch.manual_seed(1)
    return (
        torch.randn(BATCH, HEADS, queries, WIDTH),
        torch.randn(BATCH, key_heads, KEYS, WIDTH),
        torch.randn(BATCH, key_heads, KEYS, WIDTH),
    )


def fused(*arguments: Any, dtype: torch.dtype = torch.float32) -> Tensor:
    """FusedSDPA on the device, brought back."""
    moved = [x.to(dtype).to("hpu") if isinstance(x, Tensor) and x.is_floating_point() else x for x in arguments]
    moved = [x.to("hpu") if isinstance(x, Tensor) else x for x in moved]
    return FusedSDPA.apply(*moved).float().cpu()


ALL = torch.ones(QUERIES, KEYS, dtype=torch.bool)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-3), (torch.bfloat16, 0.08)])
@pytest.mark.parametrize("key_heads", [1, 2, 4])
@pytest.mark.parametrize("recompute", [False, True])
def test_attention(key_heads: int, recompute: bool, dtype: torch.dtype, tolerance: float) -> None:
    """Grouped heads are no repeated ones."""
    q, k, v = random_attention(key_heads)
    found = fused(q, k, v, None, 0.0, False, None, "None", recompute, dtype=dtype)
    torch.testing.assert_close(found, attend(q, k, v, ALL), rtol=tolerance, atol=tolerance)


def test_causal_attention_starts_in_the_top_left_corner() -> None:
    """Also with fewer queries than keys."""
    q, k, v = random_attention()
    torch.testing.assert_close(fused(q, k, v, None, 0.0, True), attend(q, k, v, ALL.tril()))


@pytest.mark.parametrize("key_heads", [2, 4])
@pytest.mark.parametrize("heads", [1, HEADS])
def test_masks(key_heads: int, heads: int) -> None:
    """True keeps, or a number is added; for all heads or for each."""
    q, k, v = random_attention(key_heads)
    allowed = torch.rand(BATCH, heads, QUERIES, KEYS) > 0.4
    allowed[..., 0] = True
    bias = torch.zeros(allowed.shape).masked_fill(~allowed, -1e4)
    shared = allowed[:, 0] if heads == 1 else None
    for mask in (allowed, bias):
        found = fused(q, k, v, mask)
        if shared is not None:
            torch.testing.assert_close(found, attend(q, k, v, shared))
        for head in range(HEADS):
            one = allowed[:, head if heads > 1 else 0]
            torch.testing.assert_close(found[:, head], attend(q, k, v, one)[:, head])


def test_the_scale_is_the_callers() -> None:
    """None stands for one over the root of the width."""
    q, k, v = random_attention()
    by_default = fused(q, k, v, None, 0.0, False, None)
    assert torch.equal(by_default, fused(q, k, v, None, 0.0, False, 1 / math.sqrt(WIDTH)))
    torch.testing.assert_close(fused(q, k, v, None, 0.0, False, 1.0), attend(q * math.sqrt(WIDTH), k, v, ALL))


@pytest.mark.parametrize("padding", ["left", "right"])
def test_live_lengths(padding: str) -> None:
    """Keys beyond them do not exist, not even as NaN; a query without any key gets NaN."""
    q, k, v = random_attention(queries=KEYS)
    lengths = torch.tensor([3, KEYS], dtype=torch.int32)
    places = torch.arange(KEYS)
    live = places < lengths[:, None] if padding == "right" else places >= KEYS - lengths[:, None]
    allowed = live[:, None, :] & torch.ones(KEYS, KEYS, dtype=torch.bool).tril()
    expected = attend(q, k, v, allowed)
    k, v = (tensor.masked_fill(~live[:, None, :, None], torch.nan) for tensor in (k, v))
    found = fused(q, k, v, None, 0.0, True, None, "None", True, lengths, padding)
    torch.testing.assert_close(found, expected, equal_nan=True)
    assert found[0].isnan().any() == (padding == "left")


def test_three_dimensions() -> None:
    """Heads folded into the batch."""
    q, k, v = random_attention()
    folded = [tensor.flatten(0, 1) for tensor in (q, k, v)]
    torch.testing.assert_close(fused(*folded).unflatten(0, (BATCH, HEADS)), attend(q, k, v, ALL))


def test_arguments_are_positional_and_counted() -> None:
    """One more than the release takes is an error."""
    q, k, v = (tensor.to("hpu") for tensor in random_attention())
    eleven = (q, k, v, None, 0.0, False, None, "None", None, None, "left")
    more = {11: (), 13: (False, False), 15: (False, False, (-1, -1), None)}[RELEASE.attention_arguments]
    FusedSDPA.apply(*eleven, *more)
    with pytest.raises(TypeError):
        FusedSDPA.apply(*eleven, *more, None)
    with pytest.raises(TypeError):
        FusedSDPA.apply(q, k, v, is_causal=True)


def test_what_attention_does_not_take() -> None:
    """As the vendor asserts it, and what only the newest release takes."""
    q, k, v = random_attention(queries=KEYS)
    mask, lengths = torch.zeros(BATCH, 1, KEYS, KEYS), torch.tensor([3, KEYS], dtype=torch.int32)
    with pytest.raises(AssertionError, match="only in inference with is_causal"):
        fused(q, k, v, None, 0.0, False, None, "None", True, lengths)
    with pytest.raises(RuntimeError, match="int32"):
        fused(q, k, v, None, 0.0, True, None, "None", True, lengths.long())
    with pytest.raises(RuntimeError, match="softmax_mode"):
        fused(q, k, v, None, 0.0, True, None, "exact")
    if NEWEST:
        expected = attend(q, k, v, torch.ones(KEYS, KEYS, dtype=torch.bool).tril())
        torch.testing.assert_close(fused(q, k, v, mask, 0.0, True), expected)
    else:
        with pytest.raises(RuntimeError, match="a mask or is_causal, not both"):
            fused(q, k, v, mask, 0.0, True)


@pytest.mark.skipif(RELEASE.name == "1.17", reason="came with 1.18")
def test_probabilities_are_answered_when_asked_for() -> None:
    """Beside the result; each row sums to one."""
    q, k, v = (tensor.to("hpu") for tensor in random_attention())
    out, weights = FusedSDPA.apply(q, k, v, None, 0.0, False, None, "None", False, None, "left", False, True)
    torch.testing.assert_close((weights @ v).cpu(), out.cpu())
    torch.testing.assert_close(weights.sum(-1).cpu(), torch.ones(BATCH, HEADS, QUERIES))


def test_recompute_is_the_argument_else_the_setting() -> None:
    """It changes no result, so the counters tell; 1.23 recomputes for one query in any case."""
    q, k, v = (tensor.to("hpu") for tensor in random_attention())

    def recomputed(*more: object, queries: Tensor = q) -> bool:
        before = counters.snapshot()
        FusedSDPA.apply(queries, k, v, None, 0.0, False, None, "None", *more)
        ((text, count),) = (counters.snapshot() - before).kernels.items()
        assert count == 1
        return "recompute=True" in text

    assert not recomputed()
    assert recomputed(True)
    with bridge.hpu.sdp_kernel(enable_recompute=True):
        assert recomputed()
        assert not recomputed(False)
    assert not bridge.hpu.recompute_sdp_enabled()
    assert recomputed(False, queries=q[:, :, :1]) is NEWEST


@pytest.mark.parametrize(("shape", "epsilon"), [((32, 1, 40), 1e-6), ((8, 2, 2, 4), 3e-5), ((1, 2, 4, 17, 20), 3e-5)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-3), (torch.bfloat16, 0.015)])
def test_norm(shape: tuple[int, ...], epsilon: float, dtype: torch.dtype, tolerance: float) -> None:
    """One tensor, of the dtype of the data."""
    torch.manual_seed(2)
    data, gamma = torch.rand(shape), torch.rand(shape[-1])
    expected = data * gamma / torch.sqrt(data.square().mean(-1, keepdim=True) + epsilon)
    found = FusedRMSNorm.apply(data.to(dtype).to("hpu"), gamma.to(dtype).to("hpu"), epsilon)
    assert found.dtype is dtype
    torch.testing.assert_close(found.float().cpu(), expected, rtol=tolerance, atol=tolerance)
    with pytest.raises(TypeError):
        FusedRMSNorm.apply(data, gamma, eps=epsilon)


def turn(data: Tensor, angles: Tensor) -> Tensor:
    """Rotate the pairs (i, i + half) of the last dimension by angles, as complex numbers."""
    half = data.shape[-1] // 2
    turned = torch.complex(data[..., :half], data[..., half:]) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat((turned.real, turned.imag), -1)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-3), (torch.bfloat16, 0.03)])
def test_rotation_by_position(dtype: torch.dtype, tolerance: float) -> None:
    """Whole tables, rows taken by position; cosine comes first."""
    torch.manual_seed(3)
    data, angles = torch.rand(2, 3, 5, 8), torch.rand(16, 4)
    positions = torch.randint(0, 16, (2, 5))
    cosine, sine = (table.repeat(1, 2)[None, None].to(dtype).to("hpu") for table in (angles.cos(), angles.sin()))
    found = RotaryPosEmbeddingHelperV2.apply(data.to(dtype).to("hpu"), cosine, sine, positions.to("hpu"))
    expected = turn(data, angles[positions][:, None])
    torch.testing.assert_close(found.float().cpu(), expected, rtol=tolerance, atol=tolerance)


def test_rotation_of_tables_that_fit() -> None:
    """Without positions, from an offset of the last dimension, and of neighbours."""
    data, angles = torch.rand(2, 5, 3, 8), torch.rand(5, 1, 4)
    cosine, sine = (table.repeat(1, 1, 2) for table in (angles.cos(), angles.sin()))
    expected = turn(data, angles)
    moved = data.to("hpu")
    found = apply_rotary_pos_emb(moved, cosine.to("hpu"), sine.to("hpu"))
    torch.testing.assert_close(found.cpu(), expected)
    wide = [torch.cat((torch.rand(5, 1, 2), table), -1).to("hpu") for table in (cosine, sine)]
    torch.testing.assert_close(RotaryPosEmbeddingHelperV1.apply(moved, *wide, 2).cpu(), expected)
    pairs = [table.repeat_interleave(2, -1).to("hpu") for table in (angles.cos(), angles.sin())]
    by_pairs = apply_rotary_pos_emb(
        data.unflatten(-1, (2, 4)).transpose(-1, -2).flatten(-2).to("hpu"),
        *pairs,
        None,
        0,
        RotaryPosEmbeddingMode.PAIRWISE,
    )
    torch.testing.assert_close(by_pairs.cpu().unflatten(-1, (4, 2)).transpose(-1, -2).flatten(-2), expected)


def test_rotation_in_float32_if_anything_is() -> None:
    """Else in the dtype of the data."""
    data, table = torch.rand(1, 1, 2, 4, dtype=torch.bfloat16).to("hpu"), torch.rand(2, 4).to("hpu")
    assert apply_rotary_pos_emb(data, table, table).dtype is torch.float32
    assert apply_rotary_pos_emb(data, table.bfloat16(), table.bfloat16()).dtype is torch.bfloat16


def test_softmax_in_bfloat16() -> None:
    """And in nothing else."""
    data = torch.randn(2, 5, dtype=torch.bfloat16).to("hpu")
    torch.testing.assert_close(CustomSoftmax.apply(data, 0).cpu(), data.cpu().softmax(-1))
    with pytest.raises(RuntimeError, match="bfloat16"):
        CustomSoftmax.apply(data.float(), 0)
