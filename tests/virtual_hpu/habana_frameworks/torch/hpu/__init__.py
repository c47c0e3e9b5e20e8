"""The device as `torch.hpu`: graphs are here in lazy mode only, and there is no empty_cache and no pinned memory."""

# ruff: noqa: F403  # names are passed on
from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from habana_frameworks.torch.hpu import memory as memory
from habana_frameworks.torch.hpu import metrics as metrics
from habana_frameworks.torch.hpu import random as random
from habana_frameworks.torch.hpu import streams as streams
from habana_frameworks.torch.hpu._utils import _get_device_index
from habana_frameworks.torch.hpu.events import *
from habana_frameworks.torch.hpu.memory import *
from habana_frameworks.torch.hpu.metrics import *
from habana_frameworks.torch.hpu.random import *
from habana_frameworks.torch.hpu.streams import *
from virtual_device.release import LAZY
from virtual_device.state import STATE

import torch

if LAZY:
    from habana_frameworks.torch.hpu.graphs import *

_settings = {"dynamic_shape": False, "recompute_sdp": False}


def init() -> None:
    pass


def is_initialized() -> bool:
    return True


def is_available() -> bool:
    return True


def device_count() -> int:
    return 1


def current_device() -> int:
    return 0


def set_device(device: Any) -> None:
    index = _get_device_index(device, optional=True)
    assert index == 0, f"Requested device {index}: one card per process"


def get_device_name(device: Any = None) -> str:
    _get_device_index(device, optional=True)
    return "GAUDI2"


def get_device_capability(device: Any = None) -> str:
    _get_device_index(device, optional=True)
    return "1.19.0"


def get_device_properties(device: Any = None) -> str:
    _get_device_index(device, optional=True)
    return "(sramBaseAddress=0x1000, dramSize=0x1800000000, tpcEnabledMask=0xffffff)"


def synchronize() -> None:
    STATE.host_waits("synchronize")


def is_bf16_supported() -> bool:
    return True


def enable_dynamic_shape() -> None:
    _settings["dynamic_shape"] = True


def disable_dynamic_shape() -> None:
    _settings["dynamic_shape"] = False


def get_dynamic_shape_status() -> bool:
    return _settings["dynamic_shape"]


def enable_inference_mode() -> None:
    pass


def disable_inference_mode() -> None:
    pass


def set_autocast_hpu_enabled(enabled: bool) -> None:
    torch.set_autocast_enabled("hpu", enabled)


def is_autocast_hpu_enabled() -> bool:
    return torch.is_autocast_enabled("hpu")


def enable_recompute_sdp(enabled: bool) -> None:
    _settings["recompute_sdp"] = enabled


def recompute_sdp_enabled() -> bool:
    return _settings["recompute_sdp"]


@contextlib.contextmanager
def sdp_kernel(enable_recompute: bool = True) -> Iterator[dict[str, object]]:
    before = recompute_sdp_enabled()
    try:
        enable_recompute_sdp(enable_recompute)
        yield {}
    finally:
        enable_recompute_sdp(before)


# What torch asks of the module of a device.
def _is_in_bad_fork() -> bool:
    return False


def _lazy_init() -> None:
    pass


def get_amp_supported_dtype() -> list[torch.dtype]:
    return [torch.bfloat16, torch.float16]
