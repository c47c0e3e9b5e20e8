"""Compilation: a list of operators that was never seen before costs one.

In lazy mode a list ends at mark_step, at a read by the host and where a graph begins or ends; in eager mode every
operator is a list of its own. Scalars are part of the list, so one that changes shows as compilations.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from torch import Tensor

from virtual_device.counters import NOW
from virtual_device.events import emit
from virtual_device.release import LAZY

MICROSECONDS: Final = 1000
"""Invented: what one compilation is said to have taken."""


class Recipes:
    """The recipes made so far and the list that is being gathered; a running hash, so that nothing piles up."""

    def __init__(self) -> None:
        self._known: set[int] = set()
        self._open: int | None = None
        self._counts = True

    def add(self, operator: object, arguments: Any) -> None:
        """Note an operator that runs."""
        if not self._counts:
            return
        self._open = hash((self._open, operator, _signature(arguments)))
        if not LAZY:
            self.cut()

    def cut(self) -> None:
        """End the list that is being gathered, and launch it."""
        if self._open is None:
            return
        recipe, self._open = self._open, None
        if recipe in self._known:
            NOW.recipe_hits += 1
            emit("cache_hit", recipe_id=_name(recipe))
        else:
            self._known.add(recipe)
            self.compile(_name(recipe))

    def compile(self, name: str) -> None:
        """Count a compilation."""
        NOW.compilations += 1
        emit("cache_miss", recipe_id=name)
        emit("graph_compilation", recipe=name, duration=str(MICROSECONDS))

    @contextmanager
    def compiled_before(self) -> Iterator[None]:
        """Run operators that were compiled, and counted, as a whole."""
        counted, self._counts = self._counts, False
        try:
            yield
        finally:
            self._counts = counted


def _signature(argument: Any) -> object:
    if isinstance(argument, Tensor):
        return tuple(argument.shape), argument.stride(), argument.dtype
    if isinstance(argument, (list, tuple)):
        return tuple(_signature(part) for part in argument)
    return repr(argument)


def _name(recipe: int) -> str:
    return f"recipe_{recipe & 0xFFFFFFFFFFFF:012x}"


RECIPES: Final = Recipes()
