"""The vendor's fused kernels, and stock PyTorch for those that are not there.

Source of the signatures: habana_frameworks/torch/hpex of the releases 1.17 to 1.23.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Any, Final, Protocol

import torch
from runtime.errors import BackendRefused
from runtime.static.kernels import TorchStaticKernels

SDPA_ARGUMENTS: Final = 9
"""Query, key, value, mask, dropout, causal, scale, softmax mode, recompute: the same, by place, in all releases."""

log = logging.getLogger(__name__)


class Fused(Protocol):
    """An autograd function of the vendor's; it takes its arguments by place only."""

    def apply(self, *arguments: object) -> torch.Tensor: ...


class HpuKernels(TorchStaticKernels):
    """What the device computes in its own way."""

    def __init__(self, flash: bool, recompute: bool) -> None:
        """`flash` uses the fused attention, with `recompute` in its memory-saving form for prompts."""
        self._recompute = recompute
        self._sdpa: Fused | None = _found("FusedSDPA", _fused_sdpa) if flash else None
        self._norm: Fused | None = _found("FusedRMSNorm", _fused_norm)
        self._rotary: Callable[..., torch.Tensor] | None = _found("apply_rotary_pos_emb", _fused_rotary)
        self.negates_sine = self._rotary is None  # the fused kernel negates itself
        found = {"FusedSDPA": self._sdpa, "FusedRMSNorm": self._norm, "apply_rotary_pos_emb": self._rotary}
        self.fused = [name for name, kernel in found.items() if kernel is not None]
        """Names of the vendor's kernels that are used."""

    def rms_norm(self, x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
        if self._norm is None:
            return super().rms_norm(x, weight, epsilon)
        return self._norm.apply(x.unsqueeze(0), weight, epsilon).squeeze(0)  # it wants three dimensions

    def rotate(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        return super().rotate(x, cos, sin) if self._rotary is None else self._rotary(x, cos, sin)

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        if self._sdpa is None:
            return super().attend(query, key, value)
        return self._fused(query, key, value, None, False, False)

    def attend_causal(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        if self._sdpa is None:
            return super().attend_causal(query, key, value)
        return self._fused(query, key, value, None, True, self._recompute)

    def attend_masked(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        if self._sdpa is None:
            return super().attend_masked(query, key, value, mask)
        resumes = mask.shape[2] > 1  # the rest of prompts; in a decode step all queries of a row share its mask
        mask = mask.expand(-1, -1, query.shape[2], -1)
        return self._fused(query, key, value, mask, False, self._recompute and resumes)

    def _fused(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None,
        causal: bool,
        recompute: bool,
    ) -> torch.Tensor:
        assert self._sdpa is not None
        scale = query.shape[-1] ** -0.5
        return self._sdpa.apply(query, key, value, mask, 0.0, causal, scale, "None", recompute)


def import_bridge() -> None:
    """Import the vendor's bridge, which makes `torch.hpu`; raises BackendRefused."""
    try:
        import habana_frameworks.torch  # noqa: F401
    except Exception as error:  # a release for another PyTorch says so in many ways
        raise BackendRefused(
            f"the vendor's bridge cannot be imported ({type(error).__name__}): it and PyTorch {torch.__version__} must "
            "be of one release; use an image of the Intel Gaudi software"
        ) from error


def _found(name: str, find: Callable[[], Any]) -> Any:
    """Return a kernel; None, with the reason in the log, where there is none that can be used."""
    try:
        return find()
    except Exception as error:  # an import of the vendor's may raise anything
        reason = " ".join(str(error).split())
        log.warning("the kernel %s cannot be used, stock PyTorch takes its place: %s", name, reason)
        return None


def _fused_sdpa() -> Any:
    from habana_frameworks.torch.hpex.kernels import FusedSDPA

    taken = len(inspect.signature(FusedSDPA.forward).parameters) - 1  # the first is autograd's
    if taken < SDPA_ARGUMENTS:
        raise TypeError(f"it takes {taken} arguments, and {SDPA_ARGUMENTS} are given")
    return FusedSDPA


def _fused_norm() -> Any:
    from habana_frameworks.torch.hpex.normalization import FusedRMSNorm

    return FusedRMSNorm


def _fused_rotary() -> Any:
    from habana_frameworks.torch.hpex.kernels import apply_rotary_pos_emb

    return apply_rotary_pos_emb
