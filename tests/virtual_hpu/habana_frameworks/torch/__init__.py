"""The bridge between torch and the device; importing it registers the device for the whole process."""

from __future__ import annotations

import os

os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"

import habana_frameworks.autoload

habana_frameworks.autoload.is_loaded = True

# ruff: noqa: E402  # in the vendor's order: the flag of autoload comes first
import habana_frameworks.torch.core
import habana_frameworks.torch.distributed.hccl
import habana_frameworks.torch.hpex.kernels
import habana_frameworks.torch.hpex.normalization
import habana_frameworks.torch.hpu
import habana_frameworks.torch.internal.bridge_config

__emulated__ = True
