"""Attention for CUDA by the operators of stock PyTorch that never repeat keys, nor write all scores to memory.

Prompts: the fused operator's flash form, causal, over rows padded on the right. The rest of prompts: its
memory-efficient form, which alone takes a mask. Decode steps: the flash attention for rows of different lengths, which
splits long rows among the processors of the card and reads no more than each row has. In float32, which flash does not
compute, all is done by the memory-efficient form.

Which of its forms PyTorch takes has not been looked at on a card yet.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import Final, Protocol

import torch
import torch.nn.functional as F
from runtime.static.kernels import TorchStaticKernels

log = logging.getLogger(__name__)

MOST_WIDTH: Final = 256
"""Of a head, in flash attention; and it is a multiple of 8."""
TRIED_HEADS: Final = 4
TRIED_CONTEXT: Final = 16


class Flash(Protocol):
    """Attention of one query for each row, without a mask."""

    def __call__(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        query_starts: torch.Tensor,
        key_starts: torch.Tensor,
        context: int,
        lengths: torch.Tensor,
    ) -> torch.Tensor:
        """Let query [rows, heads, d] see key, value [tokens, kv_heads, d]; the result is as the query.

        The keys of a row begin at `key_starts`, int32 [rows + 1], and as many are seen as `lengths`, int32 [rows],
        says, which is at most `context`; `query_starts` are 0, 1, 2 .. rows.
        """
        ...


def stock_flash(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    query_starts: torch.Tensor,
    key_starts: torch.Tensor,
    context: int,
    lengths: torch.Tensor,
) -> torch.Tensor:
    """Attend by PyTorch's own flash attention; see `Flash`.

    The operator is private, but it is the same in all releases that we run with; `torch.nn.attention.varlen` knows part
    of a cache (`seqused_k`) in the newest only.
    """
    attend = torch.ops.aten._flash_attention_forward
    seen: torch.Tensor = attend(
        query, key, value, query_starts, key_starts, 1, context, 0.0, False, False, seqused_k=lengths
    )[0]
    return seen


class CudaKernels(TorchStaticKernels):
    """What the card computes in its own way; norms, angles and products are stock PyTorch's."""

    def __init__(self, flash: Flash | None) -> None:
        """`flash` attends in decode steps; None does so with a mask."""
        self._flash = flash
        self._starts = cache(_starts)
        self.decode_attention = "masked" if flash is None else "flash"

    def attend_causal(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        if query.dtype is torch.float32:  # the memory-efficient form wants a key for every head
            shared = query.shape[1] // key.shape[1]
            key, value = key.repeat_interleave(shared, 1), value.repeat_interleave(shared, 1)
            return F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)

    def attend_masked(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        # Heads that share a key are more queries of one head, each with the same mask: the form wants equal heads.
        rows, heads, queries, width = query.shape
        kv_heads = key.shape[1]
        shared = heads // kv_heads
        together = query.reshape(rows, kv_heads, shared * queries, width)
        if mask.shape[2] > 1:
            mask = mask.repeat(1, 1, shared, 1)
        mask = mask.expand(rows, kv_heads, shared * queries, -1)
        return F.scaled_dot_product_attention(together, key, value, mask).reshape(query.shape)

    def attend_newest(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor, lengths: torch.Tensor
    ) -> torch.Tensor:
        if self._flash is None:
            return super().attend_newest(query, key, value, mask, lengths)
        rows, _, context, _ = key.shape
        slot = key.stride(0) // key.stride(2)  # tokens from the beginning of one slot to that of the next
        return self._flash(
            query,
            _packed(key, slot),
            _packed(value, slot),
            self._starts(rows, 1, query.device),
            self._starts(rows, slot, query.device),
            context,
            lengths,
        )


def find_flash(dtype: torch.dtype, width: int, device: torch.device) -> Flash | None:
    """Return the flash attention for decode steps, tried once on the card; None, with the reason in the log."""
    if dtype is torch.float32:
        return None
    if width % 8 or width > MOST_WIDTH:
        log.warning("flash attention takes heads of 8, 16 .. %s numbers, not %s; decoding is slower", MOST_WIDTH, width)
        return None
    try:
        _try(stock_flash, dtype, width, device)
    except (AttributeError, TypeError, RuntimeError, ArithmeticError) as error:
        reason = " ".join(str(error).split())[:200]
        log.warning("flash attention cannot be used in decode steps, which are slower: %s", reason)
        return None
    return stock_flash


def _try(flash: Flash, dtype: torch.dtype, width: int, device: torch.device) -> None:
    """Hold it against the masked form, on two rows of grouped heads; raises ArithmeticError."""
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(2, TRIED_HEADS, width, generator=generator).to(device, dtype)
    pasts = torch.randn(2, 2, TRIED_CONTEXT, 2, width, generator=generator).to(device, dtype)
    key, value = (past.transpose(1, 2) for past in pasts)
    lengths = torch.tensor([3, TRIED_CONTEXT - 1], dtype=torch.int32, device=device)
    later = torch.arange(TRIED_CONTEXT, device=device) >= lengths.unsqueeze(1)
    mask = (later.to(dtype) * torch.finfo(dtype).min)[:, None, None]
    got, wanted = (CudaKernels(each).attend_newest(query, key, value, mask, lengths) for each in (flash, None))
    if not torch.allclose(got, wanted, rtol=0.05, atol=0.05):
        raise ArithmeticError("its results are wrong")


def _packed(past: torch.Tensor, slot: int) -> torch.Tensor:
    """Return the slots that [rows, kv_heads, context, d] is a part of, one behind the other: a view."""
    rows, kv_heads, _, width = past.shape
    return past.as_strided((rows * slot, kv_heads, width), (past.stride(2), past.stride(1), 1))


def _starts(rows: int, length: int, device: torch.device) -> torch.Tensor:
    """Return where each row begins, and where the last one ends: int32 [rows + 1], device."""
    return torch.arange(0, (rows + 1) * length, length, dtype=torch.int32, device=device)
