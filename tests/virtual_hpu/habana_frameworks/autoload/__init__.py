"""The entry point by which `import torch` alone brings the device, from 1.18 on and in eager mode."""

from __future__ import annotations

import os

is_loaded = False
"""Whether the bridge was imported, or is being imported."""


def is_autoload_enabled() -> bool:
    """PT_HPU_AUTOLOAD decides, else the mode: not in lazy mode."""
    if (asked := os.getenv("PT_HPU_AUTOLOAD")) in ("0", "1"):
        return asked == "1"
    from virtual_device.release import RELEASE

    return os.getenv("PT_HPU_LAZY_MODE", "1" if RELEASE.lazy_by_default else "0") != "1"


def __autoload() -> None:
    if not is_loaded and is_autoload_enabled():
        import habana_frameworks.torch  # noqa: F401
