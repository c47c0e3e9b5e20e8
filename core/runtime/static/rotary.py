"""Rotary position embedding (Su et al., RoFormer, arXiv:2104.09864), in the half-split form of Llama and Mistral."""

from __future__ import annotations

import torch


class RotaryTable:
    """The angles of every position a row may have."""

    def __init__(
        self, theta: float, width: int, positions: int, dtype: torch.dtype, device: torch.device, negates_sine: bool
    ) -> None:
        """`width` is that of a head; angles are computed in fp32 and rounded to `dtype`, as transformers does."""
        frequencies = 1.0 / theta ** (torch.arange(0, width, 2, dtype=torch.float32) / width)
        angles = torch.outer(torch.arange(positions, dtype=torch.float32), frequencies)
        cos, sin = angles.cos(), angles.sin()
        self._cos = torch.cat([cos, cos], -1).to(device, dtype)  # [positions, width]
        self._sin = torch.cat([-sin if negates_sine else sin, sin], -1).to(device, dtype)  # [positions, width]

    def at(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return cos and sin, [tokens, 1, width] each, of positions, int64 [tokens], on the device."""
        return self._cos.index_select(0, positions).unsqueeze(1), self._sin.index_select(0, positions).unsqueeze(1)
