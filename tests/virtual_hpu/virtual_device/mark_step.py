"""The end of a lazy list of operators, and what waits for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from virtual_device.counters import NOW, call_site
from virtual_device.recipes import RECIPES
from virtual_device.state import STATE

_CLOSURES: Final[list[tuple[Callable[..., Any], tuple[Any, ...]]]] = []


def mark_step() -> None:
    """Cut the list of operators and launch it; within a capture it splits the graph, which is allowed."""
    STATE.check()
    NOW.mark_steps[call_site()] += 1
    RECIPES.cut()
    closures = _CLOSURES.copy()
    _CLOSURES.clear()
    for closure, arguments in closures:
        closure(*arguments)


def at_next_step(closure: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """Call something at the next step."""
    _CLOSURES.append((closure, arguments))
