"""Steps of lazy mode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from habana_frameworks.torch.utils.internal import lazy_only
from virtual_device import mark_step as steps


@lazy_only
def add_step_closure(closure: Callable[..., Any], args: tuple[Any, ...] = ()) -> None:
    steps.at_next_step(closure, args)


@lazy_only
def mark_step(device_str: str = "", sync: bool = False) -> None:
    steps.mark_step()


@lazy_only
def iter_mark_step(device_str: str = "") -> None:
    steps.mark_step()
