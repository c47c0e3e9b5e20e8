"""Random numbers: the device draws from the generator of the CPU."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from habana_frameworks.torch.hpu._utils import _get_device_index

import torch

__all__ = [
    "get_rng_state",
    "get_rng_state_all",
    "initial_seed",
    "manual_seed",
    "manual_seed_all",
    "seed",
    "seed_all",
    "set_rng_state",
    "set_rng_state_all",
]


def get_rng_state(device: Any = "hpu") -> torch.Tensor:
    _get_device_index(device, optional=True)
    return torch.default_generator.get_state()


def set_rng_state(new_state: torch.Tensor, device: Any = "hpu") -> None:
    _get_device_index(device, optional=True)
    torch.default_generator.set_state(new_state)


def manual_seed(seed: int) -> torch.Generator:
    return torch.default_generator.manual_seed(int(seed))


def manual_seed_all(seed: int) -> None:
    manual_seed(seed)


def seed() -> int:
    return torch.default_generator.seed()


def seed_all() -> None:
    seed()


def initial_seed() -> int:
    return torch.default_generator.initial_seed()


def get_rng_state_all() -> list[torch.Tensor]:
    return [get_rng_state(0)]


def set_rng_state_all(new_states: Iterable[torch.Tensor]) -> None:
    for state in new_states:
        set_rng_state(state, 0)
