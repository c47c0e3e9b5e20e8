"""Finding wrappers: what an operator puts around a backend with `--wrap`, from whatever packages are installed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Final

from runtime.backend import Limits, ModelSpec
from runtime.errors import BackendRefused
from runtime.plugins import told

ENTRY_POINT_GROUP: Final = "runtime.wrappers"

Wrap = Callable[[ModelSpec, Limits], object]
"""What an entry point names: called on the device thread once the backend is loaded; returns an object whose hooks
are all `@hookimpl(wrapper=True)`."""


@dataclass(frozen=True, slots=True)
class FoundWrapper:
    """One installed wrapper that could be imported."""

    name: str
    wrap: Wrap

    def around(self, model: ModelSpec, limits: Limits) -> object:
        """Return the wrapper for a loaded backend; raises BackendRefused when it cannot be made."""
        try:
            return self.wrap(model, limits)
        except (Exception, SystemExit) as error:
            raise BackendRefused(f"wrapper {self.name} could not start: {told(error)}") from error


def wrappers_named(names: Sequence[str]) -> list[FoundWrapper]:
    """Return the wrappers of these names, in this order; raises BackendRefused with the reason or the names there are.

    Where two packages have a wrapper of one name, the name is refused: nothing says which one is meant.
    """
    return [_named(name) for name in names]


def _named(name: str) -> FoundWrapper:
    points = entry_points(group=ENTRY_POINT_GROUP)
    named = [point for point in points if point.name == name]
    if not named:
        installed = ", ".join(sorted({point.name for point in points})) or "none"
        raise BackendRefused(f"there is no wrapper {name!r}; installed: {installed}")
    if len(named) > 1:
        owners = " and ".join(sorted(point.dist.name if point.dist else "unknown" for point in named))
        raise BackendRefused(f"the wrapper {name!r} is in {owners}; uninstall one of them")
    try:
        wrap = named[0].load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a package may raise anything, SystemExit included
        raise BackendRefused(f"wrapper {name!r} failed to load: {told(error)}") from error
    if not callable(wrap):
        raise BackendRefused(f"wrapper {name!r} is a {type(wrap).__name__}, not a callable of model and limits")
    return FoundWrapper(name, wrap)
