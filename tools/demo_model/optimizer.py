"""AdamW with weight decay on matrices only, gradient clipping, a warm-up, and a cosine at the end."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from state import Tensors

WARM_UP_STEPS = 80
LOWEST_RATE = 0.02
"""Share of the learning rate that is left at the end."""

_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


@dataclass(frozen=True, slots=True)
class Group:
    """Parameters that learn at one rate."""

    parameters: tuple[torch.nn.Parameter, ...]
    rate: float
    decay: float


class Optimizer:
    """Steps through a run of known length, of which the share `falling` at the end has a falling rate."""

    def __init__(self, groups: Iterable[Group], steps: int, *, falling: float = 1.0) -> None:
        self._steps = steps
        self._falling = max(1, round(falling * steps))
        self._rates = []
        halves = []
        for group in groups:
            for is_matrix in (True, False):
                chosen = [parameter for parameter in group.parameters if (parameter.dim() >= 2) == is_matrix]
                if chosen:
                    halves.append({"params": chosen, "weight_decay": group.decay if is_matrix else 0.0})
                    self._rates.append(group.rate)
        self._parameters = [parameter for half in halves for parameter in half["params"]]  # type: ignore[attr-defined]
        self._adam = torch.optim.AdamW(halves, betas=(0.9, 0.98), eps=1e-8, fused=True)
        self.done = 0
        """Steps taken so far."""

    def step(self) -> None:
        """Apply the gradients and clear them; a parameter without a gradient stays as it is."""
        for half, rate in zip(self._adam.param_groups, self._rates, strict=True):
            half["lr"] = rate * self._scale()
        torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)
        self.done += 1

    def tensors(self) -> Tensors:
        """Return all that a later run needs to go on as if there had been no break."""
        tensors = {"done": torch.tensor(self.done, device="cpu")}
        for number, parameter in enumerate(self._parameters):
            moments = self._adam.state[parameter]
            tensors |= {f"{number}.{name}": moments[name] for name in _MOMENTS if name in moments}
        return tensors

    def restore(self, tensors: Tensors) -> None:
        """Go on from what `tensors` of the same groups returned."""
        self.done = int(tensors["done"])
        for number, parameter in enumerate(self._parameters):
            if f"{number}.step" in tensors:
                self._adam.state[parameter] = {
                    name: tensors[f"{number}.{name}"].to(parameter.device) for name in _MOMENTS
                }

    def _scale(self) -> float:
        warm = min(1.0, (self.done + 1) / WARM_UP_STEPS)
        fallen = max(0.0, (self.done - self._steps + self._falling) / self._falling)
        return warm * (LOWEST_RATE + (1 - LOWEST_RATE) * 0.5 * (1 + math.cos(math.pi * min(1.0, fallen))))
