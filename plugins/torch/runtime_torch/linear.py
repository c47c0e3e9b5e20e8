"""Linear layers for CPUs: weights laid out once for the matrix units, where oneDNN can.

The reordering operators of PyTorch are private, so they are tried at the start and done without where they fail.
"""

from __future__ import annotations

import logging
from functools import cache

import torch
import torch.nn.functional as F
from runtime.static.kernels import Linear, TorchKernels

log = logging.getLogger(__name__)

PROBE_SIDE = 64


class CpuKernels(TorchKernels):
    """Stock PyTorch with prepacked linears and attention by plain matrix products."""

    def linear(self, weight: torch.Tensor, bias: torch.Tensor | None) -> Linear:
        return packed(weight, bias) if can_pack(weight.dtype) else super().linear(weight, bias)

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        # The fused operator is several times slower in bf16 on CPUs without AMX; a tile's scores stay in the cache.
        tiles, heads, tokens, width = query.shape
        seen = query.new_empty(tiles, tokens, heads, width).transpose(1, 2)  # as the next linear reads it
        for tile in range(tiles):
            scores = torch.matmul(query[tile] * width**-0.5, key[tile].transpose(-1, -2))
            seen[tile] = torch.matmul(scores.softmax(-1), value[tile])
        return seen


def packed(weight: torch.Tensor, bias: torch.Tensor | None) -> Linear:
    """Return x @ weight.T + bias with the weight, [out, in], laid out for oneDNN."""
    operators = torch.ops.mkldnn
    laid_out = operators._reorder_linear_weight(weight, 1)
    linear = operators._linear_pointwise
    return lambda x: linear(x, laid_out, bias, "none", [], "")


@cache
def can_pack(dtype: torch.dtype) -> bool:
    """Try the packed form against the plain one."""
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(PROBE_SIDE, PROBE_SIDE, generator=generator).to(dtype) for _ in range(2))
    bias = torch.ones(PROBE_SIDE, dtype=dtype)
    try:
        result = packed(weight, bias)(x)
    except (RuntimeError, AttributeError, NotImplementedError) as error:
        log.warning("weights cannot be prepacked on this machine (%s); decoding is slower", type(error).__name__)
        return False
    return torch.allclose(result, F.linear(x, weight, bias), rtol=0.02, atol=0.1)
