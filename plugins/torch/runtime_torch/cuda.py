"""The `cuda` backend: the toolkit on an NVIDIA GPU.

Not yet run on a card: its kernels were tested on the CPU, its graphs and copies against a stand-in for `torch.cuda`.
How fast it is, and whether it keeps to its forecast of memory, is to be measured; see docs/cuda.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import torch
from runtime import hookimpl
from runtime.backend import Backend, Capacity, Limits, ModelSpec
from runtime.static.backend import StaticBackend
from runtime.static.self_test import tried

from runtime_torch.cuda_device import CudaDevice
from runtime_torch.cuda_graphs import CudaGraphRunner
from runtime_torch.cuda_kernels import CudaKernels, find_flash

RESERVE: Final = 512 * 2**20
"""Bytes for what steps take between graphs: choosing tokens, and pictures on their way into the prompt."""
GRAPH_SHARE: Final = 0.1
"""Part of the memory left beside the weights that is kept for graphs."""


class Cuda(StaticBackend):
    """The backend of the toolkit, which goes on while the card computes, and tells what it runs as."""

    details: Mapping[str, str] = {}

    @hookimpl
    def capacity(self) -> Capacity:
        return replace(super().capacity(), asynchronous=True, details=self.details)


def loaded(model: ModelSpec, limits: Limits) -> Backend:
    """Load the model, after the card was tried on a small one; raises BackendRefused."""
    options: Mapping[str, Any] = limits.options
    dtype: torch.dtype = getattr(torch, options["dtype"] or "bfloat16")
    torch.cuda.set_device(0)

    def build(model: ModelSpec, limits: Limits) -> Cuda:
        return built(model, limits, dtype, 0)

    deviation = tried(model, build)
    backend = built(model, limits, dtype, options["image_cache_bytes"])
    backend.details = {**backend.details, "self_test": str(deviation)}
    return backend


def built(model: ModelSpec, limits: Limits, dtype: torch.dtype, cache_bytes: int, kind: type[Cuda] = Cuda) -> Cuda:
    """Load the model; `cache_bytes` is the size of the cache of picture features. Raises BackendRefused."""
    device = CudaDevice(RESERVE + cache_bytes)
    kernels = CudaKernels(find_flash(dtype, model.decoder.head_dim, device.torch_device))
    runner = CudaGraphRunner(device.torch_device)
    backend = kind(model, limits, dtype, device, kernels, runner, cache_bytes, GRAPH_SHARE)
    backend.details = {
        "compute_dtype": str(dtype).removeprefix("torch."),
        "decode_attention": kernels.decode_attention,
    }
    return backend
