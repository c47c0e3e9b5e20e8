"""Root mean square normalisation."""

from __future__ import annotations

from enum import Enum
from typing import Any

from habana_frameworks.torch.hpex._function import PositionalFunction
from virtual_device import kernels as kernels  # registers the operators

import torch
from torch import Tensor


class RmsNormBwdMode(Enum):
    """How the backward pass is computed; there is none here."""

    DEFAULT = 0
    STATIC_CASE_WIDTH_PARTITIONING = 1


class FusedRMSNorm(PositionalFunction):
    """Over the last dimension; one tensor, of the dtype of the data."""

    @staticmethod
    def forward(
        ctx: Any,
        data_in: Tensor,
        gamma: Tensor,
        eps: float,
        use_stages: bool = True,
        bwd_mode: int = 0,
        fast_math: bool = False,
    ) -> Tensor:
        result: Tensor = torch.ops.virtual_hpu.rms_norm(data_in, gamma, eps)
        return result
