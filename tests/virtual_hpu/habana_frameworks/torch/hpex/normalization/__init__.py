"""Fused normalisation."""

from __future__ import annotations

from habana_frameworks.torch.hpex.normalization.FusedRMSNorm import FusedRMSNorm, RmsNormBwdMode

__all__ = ["FusedRMSNorm", "RmsNormBwdMode"]
