"""What the device tells to whoever listens, as the vendor's event dispatcher does for its metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Literal

Topic = Literal["graph_compilation", "cpu_fallback", "cache_hit", "cache_miss"]
Listener = Callable[[Mapping[str, str]], None]

_LISTENERS: Final[dict[Topic, list[Listener]]] = {}


def subscribe(topic: Topic, listener: Listener) -> None:
    """Call the listener at every event of this topic."""
    _LISTENERS.setdefault(topic, []).append(listener)


def unsubscribe(topic: Topic, listener: Listener) -> None:
    """Call it no longer."""
    _LISTENERS[topic].remove(listener)


def emit(topic: Topic, **details: str) -> None:
    """Tell an event to those who listen now."""
    for listener in tuple(_LISTENERS.get(topic, ())):
        listener(details)
