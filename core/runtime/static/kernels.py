"""The computations a device may have its own kernels for, and plain torch for those it has not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F

Linear = Callable[[torch.Tensor], torch.Tensor]
"""[tokens, in] -> [tokens, out]."""


class Kernels(Protocol):
    """What a device computes in its own way. Tokens of all rows lie one behind the other."""

    @property
    def negates_sine(self) -> bool:
        """Whether the first half of the `sin` of `rotate` is to come negated."""
        ...

    def linear(self, weight: torch.Tensor, bias: torch.Tensor | None) -> Linear:
        """Prepare x @ weight.T + bias; the weight, [out, in], may be repacked, and the caller drops it."""
        ...

    def rms_norm(self, x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
        """Divide each token's vector by its root mean square: [tokens, hidden] -> the same."""
        ...

    def rotate(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        """Turn pairs (i, i + d/2) by each token's angles: x [tokens, heads, d]; cos, sin [tokens, 1, d].

        With the first half of `sin` negated that is x * cos + swapped halves of x * sin.
        """
        ...

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Let every token of a tile see every other: [tiles, heads, tokens, d] each, and so the result."""
        ...


class StaticKernels(Kernels, Protocol):
    """What a device of static shapes computes in its own way, beside that: attention over padded rows.

    query [rows, heads, queries, d]; key, value [rows, kv_heads, window, d], where heads is a multiple of kv_heads;
    the result is as the query. Any of them may be a view. Scores are scaled by d ** -0.5.
    """

    def attend_causal(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Let every token see itself and those before it; there are as many queries as keys."""
        ...

    def attend_masked(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """Add a mask, [rows, 1, queries or 1, window], to the scores."""
        ...

    def attend_newest(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor, lengths: torch.Tensor
    ) -> torch.Tensor:
        """Let the newest token of each row, [rows, heads, d], see the first tokens of its slot; the result is alike.

        `lengths`, int32 [rows], says how many those are, and `mask`, [rows, 1, 1, window], the same. Keys and values
        are views of slots that lie one behind the other.
        """
        ...


class TorchKernels:
    """Stock PyTorch, for any device."""

    negates_sine = True

    def linear(self, weight: torch.Tensor, bias: torch.Tensor | None) -> Linear:
        return lambda x: F.linear(x, weight, bias)

    def rms_norm(self, x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
        return F.rms_norm(x, weight.shape, weight, epsilon)

    def rotate(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return F.scaled_dot_product_attention(query, key, value)


class TorchStaticKernels(TorchKernels):
    """Stock PyTorch, for any device of static shapes."""

    def attend_causal(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)

    def attend_masked(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        return F.scaled_dot_product_attention(query, key, value, mask, enable_gqa=True)

    def attend_newest(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor,
        lengths: torch.Tensor,  # noqa: ARG002
    ) -> torch.Tensor:
        # Heads that share a key are queries of one row, which reads the key once.
        shared = query.view(len(query), key.shape[1], -1, query.shape[-1])  # [rows, kv_heads, heads / kv_heads, d]
        return self.attend_masked(shared, key, value, mask).reshape(query.shape)
