"""Making torch know the device: PrivateUse1 takes its name, and four library kernels give the factories and copies.

Library kernels hold for the whole process, so that the device works in every thread and no mode has to be on.
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any, Final

import torch
from torch import Tensor
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from virtual_device.control import answer_if_asked
from virtual_device.dispatch import dispatch, refuse_double
from virtual_device.memory import MEMORY
from virtual_device.poison import poison
from virtual_device.state import STATE
from virtual_device.tensor import NAME, HpuTensor

MATH_ATTENTION: Final = 0
"""What the vendor's torch chooses for scaled_dot_product_attention."""

_KERNELS: Final[Any] = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]


def register(module: ModuleType) -> None:
    """Register the device with `module` as `torch.hpu`; once in a process."""
    _setup_privateuseone_for_python_backend(NAME, module)
    _KERNELS.impl("empty.memory_format", _empty, "PrivateUse1")
    _KERNELS.impl("empty_strided", _empty_strided, "PrivateUse1")
    _KERNELS.impl("_copy_from", _copy_from, "PrivateUse1")
    _KERNELS.impl("_fused_sdp_choice", lambda *_, **__: MATH_ATTENTION, "PrivateUse1")


def _empty(size: Any, *, dtype: Any = None, memory_format: Any = None, **_: Any) -> HpuTensor:
    dtype = dtype or torch.get_default_dtype()
    _prepare(math.prod(size), dtype, "empty")
    with torch._C._InferenceMode(False):
        return _new(
            torch.empty(size, dtype=dtype, memory_format=memory_format or torch.contiguous_format, device="cpu")
        )


def _empty_strided(size: Any, stride: Any, *, dtype: Any = None, **_: Any) -> HpuTensor:
    dtype = dtype or torch.get_default_dtype()
    extent = 1 + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    _prepare(extent if math.prod(size) else 0, dtype, "empty_strided")
    with torch._C._InferenceMode(False):
        return _new(torch.empty_strided(size, stride, dtype=dtype, device="cpu"))


def _prepare(elements: int, dtype: torch.dtype, name: str) -> None:
    """Refuse before any memory of the host is taken."""
    STATE.check()
    refuse_double(dtype, name)
    MEMORY.require(elements * dtype.itemsize)


def _new(memory: Tensor) -> HpuTensor:
    _acquire()
    poison(memory)
    new = HpuTensor(memory)
    if STATE.tape is not None:
        STATE.tape.created(memory, new._allocation)
    return new


def _copy_from(source: Tensor, target: Tensor, non_blocking: bool = False) -> Any:
    """Copies that C++ makes below the subclass: torch.tensor(data, device="hpu")."""
    return dispatch(torch.ops.aten.copy_.default, (target, source), {})


_acquired = False


def _acquire() -> None:
    """The device is taken when it is first used."""
    global _acquired
    if not _acquired:
        _acquired = True
        answer_if_asked()
