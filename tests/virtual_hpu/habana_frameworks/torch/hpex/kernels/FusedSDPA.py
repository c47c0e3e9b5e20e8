"""Fused attention. It takes positional arguments only, and how many depends on the release."""

from __future__ import annotations

import math
from typing import Any

import habana_frameworks.torch.hpu as ht
from habana_frameworks.torch.hpex._function import PositionalFunction
from virtual_device import kernels as kernels  # registers the operators
from virtual_device.release import RELEASE

import torch
from torch import Tensor

SOFTMAX_MODES = ("none", "fast", "fp32") if RELEASE.name == "1.23" else ("none", "fast")


def _attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn_mask: Tensor | None,
    dropout_p: float,
    is_causal: bool,
    scale: float | None,
    softmax_mode: str,
    recompute_mode: bool | None,
    valid_seq_len: Tensor | None,
    seq_padding_type: str,
    return_dropout_mask: bool = False,
    return_attn_probs: bool = False,
) -> Any:
    softmax_mode, seq_padding_type = softmax_mode.lower(), seq_padding_type.lower()
    scale = 1.0 / math.sqrt(q.size(-1)) if scale is None else scale
    recompute = ht.recompute_sdp_enabled() if recompute_mode is None else recompute_mode
    if RELEASE.name == "1.23" and q.shape[-2] == 1:
        recompute = True
    if return_attn_probs:
        recompute = False
    assert not (recompute and return_dropout_mask), "Return_dropout_mask is not supported in recompute mode"
    if valid_seq_len is not None:
        taken = is_causal and (attn_mask is None or RELEASE.masks_beside_causal)
        assert taken, "Valid sequence length is supported only in inference with is_causal(triangular) mask case"
        if valid_seq_len.dtype is not torch.int32 or valid_seq_len.shape != q.shape[:1]:
            raise RuntimeError(f"valid_seq_len is int32 of shape {tuple(q.shape[:1])}")
    _refuse(q, k, v, attn_mask, dropout_p, is_causal, softmax_mode, seq_padding_type)
    out = torch.ops.virtual_hpu.attention(
        q, k, v, attn_mask, is_causal, scale, softmax_mode, recompute, valid_seq_len, seq_padding_type
    )
    if not return_attn_probs:
        return out
    return out, torch.ops.virtual_hpu.attention_probabilities(
        q, k, attn_mask, is_causal, scale, valid_seq_len, seq_padding_type
    )


def _refuse(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn_mask: Tensor | None,
    dropout_p: float,
    is_causal: bool,
    softmax_mode: str,
    seq_padding_type: str,
) -> None:
    """Raise for what the kernel does not take, or the emulation does not know."""
    if q.requires_grad or k.requires_grad or v.requires_grad or dropout_p:
        raise NotImplementedError("the virtual HPU emulates FusedSDPA for inference only")
    if not q.dim() == k.dim() == v.dim() or q.dim() not in (3, 4):
        raise RuntimeError(f"FusedSDPA takes three tensors of 3 or 4 dimensions, not {q.dim()}, {k.dim()}, {v.dim()}")
    if not q.dtype == k.dtype == v.dtype or q.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        raise RuntimeError(f"FusedSDPA takes tensors of one floating dtype, not {q.dtype}, {k.dtype}, {v.dtype}")
    if q.dim() == 4 and k.shape[1] != 1 and q.shape[1] % k.shape[1]:
        raise RuntimeError(f"{q.shape[1]} query heads cannot be grouped over {k.shape[1]} key heads")
    if q.dim() == 4 and k.shape[1] not in (1, q.shape[1]) and attn_mask is not None and attn_mask.dim() != 4:
        raise ValueError("with grouped heads the mask has 4 dimensions")
    if attn_mask is not None and is_causal and not RELEASE.masks_beside_causal:
        raise RuntimeError("FusedSDPA takes a mask or is_causal, not both, before release 1.23")
    if softmax_mode not in SOFTMAX_MODES:
        raise RuntimeError(f"softmax_mode is one of {SOFTMAX_MODES}, not {softmax_mode}")
    if softmax_mode == "fp32":
        assert q.dtype is torch.bfloat16, "softmax_mode fp32 takes bfloat16"
    if seq_padding_type not in ("left", "right"):
        raise RuntimeError(f"seq_padding_type is left or right, not {seq_padding_type}")


class _FusedSDPA11(PositionalFunction):
    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        softmax_mode: str = "None",
        recompute_mode: bool | None = None,
        valid_seq_len: Tensor | None = None,
        seq_padding_type: str = "left",
    ) -> Any:
        return _attend(
            q,
            k,
            v,
            attn_mask,
            dropout_p,
            is_causal,
            scale,
            softmax_mode,
            recompute_mode,
            valid_seq_len,
            seq_padding_type,
        )


class _FusedSDPA13(PositionalFunction):
    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        softmax_mode: str = "None",
        recompute_mode: bool | None = None,
        valid_seq_len: Tensor | None = None,
        seq_padding_type: str = "left",
        return_dropout_mask: bool = False,
        return_attn_probs: bool = False,
    ) -> Any:
        return _attend(
            q, k, v, attn_mask, dropout_p, is_causal, scale, softmax_mode, recompute_mode, valid_seq_len,
            seq_padding_type, return_dropout_mask, return_attn_probs,
        )  # fmt: skip


class _FusedSDPA15(PositionalFunction):
    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        softmax_mode: str = "None",
        recompute_mode: bool | None = None,
        valid_seq_len: Tensor | None = None,
        seq_padding_type: str = "left",
        return_dropout_mask: bool = False,
        return_attn_probs: bool = False,
        window_size: tuple[int, int] = (-1, -1),
        sinks: Tensor | None = None,
    ) -> Any:
        if tuple(window_size) != (-1, -1) or sinks is not None:
            raise NotImplementedError("the virtual HPU does not emulate windows and sinks of FusedSDPA")
        return _attend(
            q, k, v, attn_mask, dropout_p, is_causal, scale, softmax_mode, recompute_mode, valid_seq_len,
            seq_padding_type, return_dropout_mask, return_attn_probs,
        )  # fmt: skip


FusedSDPA = {11: _FusedSDPA11, 13: _FusedSDPA13, 15: _FusedSDPA15}[RELEASE.attention_arguments]
