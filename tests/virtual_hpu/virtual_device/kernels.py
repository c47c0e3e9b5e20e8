"""The vendor's fused kernels as plain maths in float32, rounded once to the dtype of their result.

Operators of torch, so that a graph records each as one step. Inference only.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.library import custom_op

from virtual_device.counters import NOW

BLOCKWISE = 0
"""Rotate the two halves of a head; the other way, PAIRWISE, rotates neighbours."""


@custom_op("virtual_hpu::attention", mutates_args=())
def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    is_causal: bool,
    scale: float,
    softmax_mode: str,
    recompute: bool,
    lengths: Tensor | None,
    padding: str,
) -> Tensor:
    """Softmax attention over (batch, heads, length, width), or without heads; grouped heads when there are fewer keys.

    `lengths`, int32 (batch,), tells how many keys of each row are live; they are the last ones if padding is "left".
    A query that may look at no key gets NaN: the card leaves it unspecified.
    """
    NOW.kernels[f"attention(recompute={recompute}, softmax={softmax_mode}, causal={is_causal})"] += 1
    probabilities = _probabilities(query, key, mask, is_causal, scale, lengths, padding)
    value = _for_each_head(value.float(), query)
    if lengths is not None:  # what lies in dead rows may be NaN, and is not read
        value = value.masked_fill(~_live_keys(lengths, padding, key)[..., None], 0.0)
    return (probabilities @ value).to(query.dtype)


@attention.register_fake
def _(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    is_causal: bool,
    scale: float,
    softmax_mode: str,
    recompute: bool,
    lengths: Tensor | None,
    padding: str,
) -> Tensor:
    return query.new_empty((*query.shape[:-1], value.shape[-1]))


@custom_op("virtual_hpu::attention_probabilities", mutates_args=())
def attention_probabilities(
    query: Tensor,
    key: Tensor,
    mask: Tensor | None,
    is_causal: bool,
    scale: float,
    lengths: Tensor | None,
    padding: str,
) -> Tensor:
    """The softmax of `attention`, (batch, heads, queries, keys)."""
    return _probabilities(query, key, mask, is_causal, scale, lengths, padding).to(query.dtype)


def _probabilities(
    query: Tensor,
    key: Tensor,
    mask: Tensor | None,
    is_causal: bool,
    scale: float,
    lengths: Tensor | None,
    padding: str,
) -> Tensor:
    scores = query.float() @ _for_each_head(key.float(), query).transpose(-1, -2) * scale
    if is_causal:  # the triangle starts in the top left corner, whatever the lengths
        scores = scores.masked_fill(~torch.ones(scores.shape[-2:], dtype=torch.bool).tril(), -torch.inf)
    if mask is not None and mask.dtype is torch.bool:
        scores = scores.masked_fill(~mask, -torch.inf)
    elif mask is not None:
        scores = scores + mask.float()
    if lengths is not None:
        scores = scores.masked_fill(~_live_keys(lengths, padding, key)[..., None, :], -torch.inf)
    return scores.softmax(-1)


def _for_each_head(keys: Tensor, query: Tensor) -> Tensor:
    """Repeat keys or values for the query heads of their group."""
    if query.dim() == 3 or keys.shape[1] in (1, query.shape[1]):
        return keys
    return keys.repeat_interleave(query.shape[1] // keys.shape[1], dim=1)


def _live_keys(lengths: Tensor, padding: str, key: Tensor) -> Tensor:
    """(batch, 1, keys), or (batch, keys) without heads."""
    places = torch.arange(key.shape[-2])
    live = places < lengths[:, None] if padding == "right" else places >= key.shape[-2] - lengths[:, None]
    return live[:, None] if key.dim() == 4 else live


@custom_op("virtual_hpu::rms_norm", mutates_args=())
def rms_norm(data: Tensor, gamma: Tensor, epsilon: float) -> Tensor:
    """x * gamma / sqrt(mean(x ** 2) + epsilon) over the last dimension."""
    NOW.kernels["rms_norm"] += 1
    wide = data.float()
    scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + epsilon)
    return (wide * scale * gamma.float()).to(data.dtype)


@rms_norm.register_fake
def _(data: Tensor, gamma: Tensor, epsilon: float) -> Tensor:
    return torch.empty_like(data)


@custom_op("virtual_hpu::rotary", mutates_args=())
def rotary(data: Tensor, cosine: Tensor, sine: Tensor, positions: Tensor | None, offset: int, mode: int) -> Tensor:
    """Rotary position embedding of (batch, heads, length, width).

    With positions (batch, length) the tables hold a row per position, and leading dimensions of 1 at most; without,
    they fit the data as they are, from `offset` of the last dimension.
    """
    NOW.kernels["rotary"] += 1
    if positions is not None:
        cosine, sine = (table.reshape(table.shape[-2:])[positions].unsqueeze(1) for table in (cosine, sine))
    else:
        cosine, sine = (table[..., offset : offset + data.shape[-1]] for table in (cosine, sine))
    wide = data.float()
    if mode == BLOCKWISE:
        first, second = wide.chunk(2, dim=-1)
        turned = torch.cat((-second, first), dim=-1)
    else:
        turned = torch.stack((-wide[..., 1::2], wide[..., ::2]), dim=-1).flatten(-2)
    return (wide * cosine.float() + turned * sine.float()).to(data.dtype)


@rotary.register_fake
def _(data: Tensor, cosine: Tensor, sine: Tensor, positions: Tensor | None, offset: int, mode: int) -> Tensor:
    return torch.empty_like(data)


@custom_op("virtual_hpu::softmax", mutates_args=())
def softmax(data: Tensor) -> Tensor:
    """Softmax over the last dimension."""
    NOW.kernels["softmax"] += 1
    return data.float().softmax(-1).to(data.dtype)


@softmax.register_fake
def _(data: Tensor) -> Tensor:
    return torch.empty_like(data)
