"""In lazy mode the device carries int64 in 32 bits, unless PT_ENABLE_INT64_SUPPORT says otherwise."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Final

import torch

from virtual_device.counters import call_site
from virtual_device.tensor import HpuTensor

SUPPORTED: Final = os.environ.get("PT_ENABLE_INT64_SUPPORT", "0").lower() in ("1", "true")
_LEAST, _MOST = torch.iinfo(torch.int32).min, torch.iinfo(torch.int32).max


def refuse_wide(tensors: Iterable[HpuTensor], operator: object) -> None:
    """Raise for a value that the card would silently cut off."""
    if SUPPORTED:
        return
    for tensor in tensors:
        hidden = tensor._hidden
        if (
            hidden.dtype is torch.int64
            and hidden.numel()
            and not _LEAST <= int(hidden.min()) <= int(hidden.max()) <= _MOST
        ):
            raise RuntimeError(f"an int64 value does not fit the 32 bits it has on hpu (in {operator}, {call_site()})")
