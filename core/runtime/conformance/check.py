"""A check: what it proves, what usually breaks it, and the function that finds out."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from runtime.conformance.bench import Bench

Run = Callable[["Bench"], str]
"""Returns in a few words what was seen. Raises Failed, NotApplicable, and whatever the backend raises."""


class Failed(Exception):
    """The backend does not do what the check proves; the text says what was seen."""


class NotApplicable(Exception):
    """The backend does not offer what the check is about; the text says what."""


@dataclass(frozen=True, slots=True)
class Check:
    """One expectation of every backend."""

    name: str
    """For reports and waivers."""
    proves: str
    """One sentence."""
    breaks: str
    """What usually is the cause when it fails, in one sentence."""
    run: Run

    @property
    def theme(self) -> str:
        """The module it is of."""
        return self.run.__module__.rpartition(".")[2]


_registered: list[Check] = []


def check(name: str, proves: str, breaks: str) -> Callable[[Run], Run]:
    """Register a function as the check of that name."""

    def register(run: Run) -> Run:
        _registered.append(Check(name, proves, breaks, run))
        return run

    return register


THEMES: Final = (
    "declared",
    "limits",
    "answers",
    "rows",
    "lifetimes",
    "pictures",
    "parts",
    "numerics",
    "errors",
    "cost",
    "warmup",
)
"""Modules of `runtime.conformance.checks`, in the order in which they run; last what would stop a server."""


def every_check() -> tuple[Check, ...]:
    """Return all checks, in the order in which they run."""
    for theme in THEMES:
        importlib.import_module(f"runtime.conformance.checks.{theme}")
    return tuple(_registered)
