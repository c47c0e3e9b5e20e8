"""AdamW with weight decay on matrices only, gradient clipping, a warm-up and a cosine."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch

WARM_UP_STEPS = 80
LOWEST_RATE = 0.02
"""Share of the learning rate that is left at the end."""


@dataclass(frozen=True, slots=True)
class Group:
    """Parameters that learn at one rate."""

    parameters: tuple[torch.nn.Parameter, ...]
    rate: float
    decay: float


class Optimizer:
    """Steps through a run of known length."""

    def __init__(self, groups: Iterable[Group], steps: int) -> None:
        self._steps = steps
        self._step = 0
        self._rates = []
        halves = []
        for group in groups:
            for is_matrix in (True, False):
                chosen = [parameter for parameter in group.parameters if (parameter.dim() >= 2) == is_matrix]
                if chosen:
                    halves.append({"params": chosen, "weight_decay": group.decay if is_matrix else 0.0})
                    self._rates.append(group.rate)
        self._adam = torch.optim.AdamW(halves, betas=(0.9, 0.98), eps=1e-8, fused=True)

    def step(self) -> None:
        """Apply the gradients and clear them; a parameter without a gradient stays as it is."""
        for half, rate in zip(self._adam.param_groups, self._rates, strict=True):
            half["lr"] = rate * self._scale()
        torch.nn.utils.clip_grad_norm_([p for half in self._adam.param_groups for p in half["params"]], 1.0)
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)
        self._step += 1

    def _scale(self) -> float:
        warm = min(1.0, (self._step + 1) / WARM_UP_STEPS)
        return warm * (LOWEST_RATE + (1 - LOWEST_RATE) * 0.5 * (1 + math.cos(math.pi * self._step / self._steps)))
