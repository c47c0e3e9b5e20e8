"""Whether this machine can run the backend `cuda`, found out without initialising CUDA.

The gateway asks too, and a process that has initialised CUDA holds memory of the card.
"""

from __future__ import annotations

import os
from typing import Final

import torch
from runtime.backend import Availability

from runtime_torch.nvml import VISIBLE, Driver, Gpu, first_visible, installed_driver

OLDEST: Final = (8, 0)
"""Compute capability of the first cards that compute in bfloat16."""

NO_DRIVER: Final = (
    "no NVIDIA driver answers: install one, or start the container with --gpus all (or the nvidia runtime)"
)


def availability() -> Availability:
    """Ask the driver for a card, and PyTorch whether it was built for CUDA."""
    driver = installed_driver()
    if driver is None:
        return Availability(False, NO_DRIVER)
    gpu = first_visible(driver.gpus, os.environ)
    if gpu is None:
        visible = os.environ.get(VISIBLE)
        told = "" if visible is None else f", and {VISIBLE} is {visible[:50]!r}"
        return Availability(False, f"no GPU is to be seen: the driver has {len(driver.gpus)}{told}")
    reason = _mismatch(driver, gpu)
    return Availability(not reason, reason, _details(driver, gpu))


def _mismatch(driver: Driver, gpu: Gpu) -> str:
    """Return why card, driver and PyTorch do not go together; nothing when they do."""
    toolkit, newest = torch.version.cuda, driver.newest_cuda
    if gpu.capability < OLDEST:
        return (
            f"{gpu.name} has compute capability {_dotted(gpu.capability)}, and bfloat16 needs {_dotted(OLDEST)} or "
            "newer (Ampere, 2020); use --backend cpu"
        )
    if toolkit is None:
        return (
            f"PyTorch {torch.__version__} was built without CUDA: pip install --force-reinstall torch --index-url "
            "https://download.pytorch.org/whl/cuNNN, where cuNNN is a CUDA that the driver runs, up to "
            f"{_dotted(newest)}"
        )
    if int(toolkit.split(".")[0]) > newest[0]:
        return (
            f"the driver {driver.version} runs CUDA up to {_dotted(newest)}, and PyTorch was built for {toolkit}: "
            "update the driver, or install a PyTorch for an older CUDA"
        )
    return ""


def _details(driver: Driver, gpu: Gpu) -> dict[str, str]:
    return {
        "device": gpu.name,
        "memory": f"{gpu.bytes / 2**30:.1f} GiB",
        "capability": _dotted(gpu.capability),
        "driver": driver.version,
        "cuda": torch.version.cuda or "none",
        "torch": str(torch.__version__),
    }


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
