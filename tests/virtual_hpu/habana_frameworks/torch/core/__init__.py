"""Steps of lazy mode and the set-up for inference."""

# ruff: noqa: F401, F403  # names are passed on
from __future__ import annotations

import os

from habana_frameworks.torch import hpu
from habana_frameworks.torch.core.quantization import *
from habana_frameworks.torch.core.step_closure import add_step_closure, iter_mark_step, mark_step
from virtual_device.registration import register
from virtual_device.release import LAZY

register(hpu)

os.environ.setdefault("HABANA_PROFILE", "profile_api_light")


def _is_on(variable: str) -> bool:
    return os.getenv(variable, "1").upper() in ("ON", "1", "YES", "TRUE", "Y")


if LAZY and _is_on("PT_HPU_WEIGHT_SHARING") and _is_on("EXPERIMENTAL_WEIGHT_SHARING"):
    from habana_frameworks.torch.core.weight_sharing import enable_weight_sharing

    enable_weight_sharing()
