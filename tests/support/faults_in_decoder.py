"""Mistakes in the arithmetic of the decoder."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from runtime.static import decoder as decoder_module
from runtime.static.decoder import Decoder, Layer
from runtime.static.kernels import TorchStaticKernels
from runtime.static.rectangle import RectangleAttention
from runtime.static.rotary import RotaryTable

Patch = pytest.MonkeyPatch


def rope_base(patch: Patch) -> None:
    """Rotary angles of another base (9000 for 10000)."""

    def table(theta: float, *rest: Any) -> RotaryTable:
        return RotaryTable(0.9 * theta, *rest)

    patch.setattr(decoder_module, "RotaryTable", table)


def rope_interleaved(patch: Patch) -> None:
    """Rotary embedding of neighbouring numbers in the place of halves."""

    def rotate(self: Any, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        half = x.shape[-1] // 2
        turned = torch.stack([-x[..., 1::2], x[..., ::2]], -1).flatten(-2)
        cos, sin = (each[..., half:].repeat_interleave(2, -1) for each in (cos, sin))
        return x * cos + turned * sin

    patch.setattr(TorchStaticKernels, "rotate", rotate)


def swapped_heads(patch: Patch) -> None:
    """Two query heads swapped, in the second layer only."""
    right = RectangleAttention.__call__

    def wrong(self: Any, layer: int, query: torch.Tensor, *rest: Any) -> torch.Tensor:
        order = [1, 0, *range(2, query.shape[1])]
        return right(self, layer, query[:, order] if layer == 1 else query, *rest)

    patch.setattr(RectangleAttention, "__call__", wrong)


def grouped_wrongly(patch: Patch) -> None:
    """Query heads share keys in turns, not in neighbouring groups."""

    def attend(self: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        times = query.shape[1] // key.shape[1]
        key, value = (each.repeat(1, times, 1, 1) for each in (key, value))
        return F.scaled_dot_product_attention(query, key, value, is_causal=True)

    patch.setattr(TorchStaticKernels, "attend_causal", attend)


def softmax_scale(patch: Patch) -> None:
    """Scores of a prompt scaled by 1 / d in the place of 1 / sqrt(d)."""

    def attend(self: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        scale = 1 / query.shape[-1]
        return F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True, scale=scale)

    patch.setattr(TorchStaticKernels, "attend_causal", attend)


def not_causal(patch: Patch) -> None:
    """Prompts see what comes after, padding included."""

    def attend(self: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return F.scaled_dot_product_attention(query, key, value, enable_gqa=True)

    patch.setattr(TorchStaticKernels, "attend_causal", attend)


def narrow_accumulation(patch: Patch) -> None:
    """Attention of an fp32 backend summed in bf16."""
    right = TorchStaticKernels.attend_causal

    def attend(self: Any, *tensors: torch.Tensor) -> torch.Tensor:
        return right(self, *(each.bfloat16() for each in tensors)).float()

    patch.setattr(TorchStaticKernels, "attend_causal", attend)


def narrow_weights(patch: Patch) -> None:
    """Products of an fp32 backend computed in bf16."""

    def linear(self: Any, weight: torch.Tensor, bias: torch.Tensor | None) -> Any:
        def apply(x: torch.Tensor) -> torch.Tensor:
            narrow = None if bias is None else bias.bfloat16()
            return F.linear(x.bfloat16(), weight.bfloat16(), narrow).float()

        return apply

    patch.setattr(TorchStaticKernels, "linear", linear)


def norm_epsilon(patch: Patch) -> None:
    """Norms of the decoder with an epsilon of 1e-6 in the place of 1e-5."""
    right = TorchStaticKernels.rms_norm

    def norm(self: Any, x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
        return right(self, x, weight, 0.1 * epsilon)

    patch.setattr(TorchStaticKernels, "rms_norm", norm)


def activation(patch: Patch) -> None:
    """GELU in the decoder's MLP in the place of SiLU."""

    class Functional:
        def __getattr__(self, name: str) -> Any:
            return getattr(F, "gelu" if name == "silu" else name)

    patch.setattr(decoder_module, "F", Functional())


def head_norm(patch: Patch) -> None:
    """No norm before the head."""
    patch.setattr(Decoder, "logits", lambda self, hidden: self._head(hidden))


def residual(patch: Patch) -> None:
    """The third layer without its residual."""
    right = Layer.__call__

    def wrong(self: Any, hidden: torch.Tensor, *rest: Any) -> torch.Tensor:
        found = right(self, hidden, *rest)
        return found - hidden if self._index == 2 else found

    patch.setattr(Layer, "__call__", wrong)


def bf16_scale(patch: Patch) -> None:
    """Scores of a prompt scaled by 1 / d, in a bf16 backend."""
    softmax_scale(patch)
