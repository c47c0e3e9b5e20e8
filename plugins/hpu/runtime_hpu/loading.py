"""From options to a loaded backend."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import torch
from runtime import hookimpl
from runtime.backend import Backend, Capacity, Limits, ModelSpec
from runtime.static.backend import StaticBackend
from runtime.static.self_test import tried

from runtime_hpu.device import HpuDevice
from runtime_hpu.environment import Mode, mode_of, prepare
from runtime_hpu.graphs import HpuRunner
from runtime_hpu.kernels import HpuKernels, import_bridge
from runtime_hpu.probe import installed, is_emulated

RESERVE_PERCENT: Final = {Mode.LAZY: 30, Mode.COMPILE: 10, Mode.EAGER: 10}

log = logging.getLogger(__name__)


class Hpu(StaticBackend):
    """The backend of the toolkit, which tells what it runs as."""

    details: Mapping[str, str] = {}

    @hookimpl
    def capacity(self) -> Capacity:
        return replace(super().capacity(), details=self.details)


def loaded(model: ModelSpec, limits: Limits) -> Backend:
    """Load the model, after the device was tried on a small one; raises BackendRefused."""
    options: Mapping[str, Any] = limits.options
    version = installed()
    assert version is not None
    mode = mode_of(options["hpu_mode"], torch.__version__, is_emulated(version), os.environ)
    prepare(mode, options)
    import_bridge()
    device = HpuDevice()
    kernels = HpuKernels(options["use_flash_attention"], options["flash_attention_recompute"])
    dtype = getattr(torch, options["dtype"] or "bfloat16")
    percent = options["graph_reserve_percent"]
    share = (RESERVE_PERCENT[mode] if percent is None else percent) / 100

    def build(model: ModelSpec, limits: Limits, cache_bytes: int = 0) -> Hpu:
        runner = HpuRunner(device.torch_device, mode, options["enable_hpu_graph"], not options["limit_hpu_graph"])
        return Hpu(model, limits, dtype, device, kernels, runner, cache_bytes, share)

    deviation = tried(model, build)
    backend = build(model, limits, options["image_cache_bytes"])
    backend.details = {
        "mode": mode.value,
        "kernels": ", ".join(kernels.fused) or "stock PyTorch",
        "compute_dtype": str(dtype).removeprefix("torch."),
        "self_test": str(deviation),
    }
    log.info("%s mode; kernels: %s", mode.value, backend.details["kernels"])
    return backend
