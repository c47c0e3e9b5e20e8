"""Settings of the bridge that may change while it runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_SETTINGS: dict[str, Any] = {"pt_hpu_enable_refine_dynamic_shapes": False, "pt_compile_only_mode": False}


@contextmanager
def env_setting(var: str, val: Any) -> Iterator[None]:
    """Change a setting within a `with`; KeyError for one that does not exist."""
    name = var.lower()
    before = _SETTINGS[name]
    if name == "pt_compile_only_mode" and val:
        raise NotImplementedError("the virtual HPU does not emulate PT_COMPILE_ONLY_MODE")
    _SETTINGS[name] = val
    yield
    _SETTINGS[name] = before
