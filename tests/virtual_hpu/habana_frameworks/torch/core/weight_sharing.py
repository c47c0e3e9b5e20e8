"""The vendor wraps parameters, Module.to and attribute access here; emulated is only that it was asked for."""

from __future__ import annotations

enabled = False


def enable_weight_sharing() -> None:
    """Called while the bridge is imported, in lazy mode, unless the environment says no."""
    global enabled
    enabled = True
