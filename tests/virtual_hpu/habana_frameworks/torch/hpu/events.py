"""Events."""

from __future__ import annotations

from virtual_device.streams import Event

__all__ = ["Event"]
