"""What the bridge reads from the environment when it is imported: worked out, and set before.

Source: https://docs.habana.ai/en/latest/PyTorch/Reference/Runtime_Flags.html
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from enum import Enum
from typing import Final

from runtime.backend import Value
from runtime.errors import BackendRefused

LAZY_MODE: Final = "PT_HPU_LAZY_MODE"
TENSOR_CACHE: Final = "PT_HPUGRAPH_DISABLE_TENSOR_CACHE"
RECIPE_CACHE: Final = re.compile(r"[^,]+,(true|false),\d{1,9}(,(true|false))?", re.IGNORECASE)
WORLD_SIZES: Final = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE")
"""Set by launchers of several processes."""


class Mode(Enum):
    """How the device is driven."""

    LAZY = "lazy"
    COMPILE = "compile"
    EAGER = "eager"


def mode_of(wanted: str, torch_version: str, is_emulated: bool, environment: Mapping[str, str]) -> Mode:
    """Return the mode for a value of --hpu-mode; raises BackendRefused for one that this PyTorch cannot do.

    The vendor's own build has a local version that begins with `git`, and is the only one that can be lazy.
    """
    can_be_lazy = is_emulated or torch_version.partition("+")[2].startswith("git")
    if wanted == "auto":
        given = environment.get(LAZY_MODE)
        is_lazy = can_be_lazy if given is None else given != "0"
        wanted = "lazy" if is_lazy else "compile"
    if wanted == "lazy" and not can_be_lazy:
        raise BackendRefused(
            f"lazy mode needs the vendor's build of PyTorch, and this is {torch_version}: use --hpu-mode compile and "
            f"leave {LAZY_MODE} out, or an image with that build"
        )
    return Mode(wanted)


def variables(mode: Mode, options: Mapping[str, Value]) -> dict[str, str]:
    """Return what the bridge is to find; raises BackendRefused for a malformed option."""
    found = {
        LAZY_MODE: "1" if mode is Mode.LAZY else "0",
        "PT_HPU_WEIGHT_SHARING": "0",  # it wraps parameters and Module.to, for the benefit of training
    }
    collectives, recipes = options["pt_hpu_enable_lazy_collectives"], options["pt_hpu_recipe_cache_config"]
    if collectives is not None:
        found["PT_HPU_ENABLE_LAZY_COLLECTIVES"] = str(collectives).lower()
    if recipes is not None:
        if not RECIPE_CACHE.fullmatch(str(recipes)):
            raise BackendRefused(
                f"--pt-hpu-recipe-cache-config is {str(recipes)[:100]!r}; give PATH,DELETE_AT_START,MEGABYTES, as "
                "/cache,false,8192"
            )
        found["PT_HPU_RECIPE_CACHE_CONFIG"] = str(recipes)
    return found


def prepare(mode: Mode, options: Mapping[str, Value]) -> None:
    """Set the environment of this process; the bridge may be imported after.

    Raises BackendRefused for what the operator has set and cannot work, and for a bridge that is there in another mode.
    """
    cache = os.environ.get(TENSOR_CACHE, "0")
    if cache not in ("0", "1"):
        raise BackendRefused(f"{TENSOR_CACHE} is {cache[:20]!r}, which the bridge takes for 0; set it to 0 or 1")
    for name in WORLD_SIZES:
        if (size := os.environ.get(name, "1")) != "1":
            raise BackendRefused(f"{name} is {size[:20]!r}, and a model is served on one device: start one process")
    found = variables(mode, options)
    is_lazy = _imported_lazy()
    if is_lazy is not None and is_lazy is not (mode is Mode.LAZY):
        found_mode = "lazy" if is_lazy else "eager"
        raise BackendRefused(
            f"the vendor's bridge was imported too early, in {found_mode} mode, and {mode.value} is wanted: start with "
            f"TORCH_DEVICE_BACKEND_AUTOLOAD=0 or {LAZY_MODE}={found[LAZY_MODE]}"
        )
    os.environ.update(found)


def _imported_lazy() -> bool | None:
    """Return whether a bridge that was imported already is lazy; None where none was."""
    internal = sys.modules.get("habana_frameworks.torch.utils.internal")
    return None if internal is None else bool(internal.is_lazy())
