"""The GPUs of this machine, as the driver's management library tells them: nothing of CUDA is initialised by asking.

Source: https://docs.nvidia.com/deploy/nvml-api/
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

LIBRARY: Final = "libnvidia-ml.so.1"
TEXT_BYTES: Final = 96
"""Enough for every text that the library writes."""
VISIBLE: Final = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True, slots=True)
class Gpu:
    """One card."""

    name: str
    uuid: str
    bytes: int
    """Of its memory."""
    capability: tuple[int, int]
    """What its processor can: major and minor number."""


@dataclass(frozen=True, slots=True)
class Driver:
    """The driver and its cards, in the order of the bus."""

    version: str
    newest_cuda: tuple[int, int]
    """The newest CUDA that it runs."""
    gpus: tuple[Gpu, ...]


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class NvmlError(Exception):
    """The library is not there, or refuses."""


def installed_driver() -> Driver | None:
    """Ask the driver; None where there is none, or none that answers."""
    with suppress(NvmlError):
        return _asked(_Library())
    return None


def first_visible(gpus: tuple[Gpu, ...], environment: Mapping[str, str]) -> Gpu | None:
    """Return the card that a process of this environment computes on; None when it is to see none.

    Cards are told by number or by the beginning of their UUID. A number counts in the order of the bus, from which
    CUDA's own order may differ where cards do; a part of a card (MIG) is taken to be of the first.
    """
    first = environment.get(VISIBLE, "0").split(",")[0].strip()
    if first.startswith("MIG-"):
        first = "0"
    if first.isdecimal():
        return gpus[int(first)] if int(first) < len(gpus) else None
    return next((gpu for gpu in gpus if first and gpu.uuid.startswith(first)), None)


class _Library:
    """Calls the library; every call raises NvmlError when it fails."""

    def __init__(self) -> None:
        try:
            self._library: Any = ctypes.CDLL(LIBRARY)
        except OSError as error:
            raise NvmlError(LIBRARY) from error

    def call(self, name: str, *arguments: object) -> None:
        try:
            status = getattr(self._library, name)(*arguments)
        except AttributeError as error:  # an older driver
            raise NvmlError(name) from error
        if status != 0:
            raise NvmlError(f"{name}: {status}")

    def text(self, name: str, *arguments: object) -> str:
        buffer = ctypes.create_string_buffer(TEXT_BYTES)
        self.call(name, *arguments, buffer, ctypes.c_uint(TEXT_BYTES))
        return buffer.value.decode(errors="replace")


def _asked(library: _Library) -> Driver:
    library.call("nvmlInit_v2")
    try:
        cuda, count = ctypes.c_int(), ctypes.c_uint()
        library.call("nvmlSystemGetCudaDriverVersion_v2", ctypes.byref(cuda))
        library.call("nvmlDeviceGetCount_v2", ctypes.byref(count))
        gpus = tuple(_gpu(library, index) for index in range(count.value))
        newest = (cuda.value // 1000, cuda.value % 1000 // 10)
        return Driver(library.text("nvmlSystemGetDriverVersion"), newest, gpus)
    finally:
        library.call("nvmlShutdown")


def _gpu(library: _Library, index: int) -> Gpu:
    handle, memory, major, minor = ctypes.c_void_p(), _Memory(), ctypes.c_int(), ctypes.c_int()
    library.call("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(handle))
    library.call("nvmlDeviceGetMemoryInfo", handle, ctypes.byref(memory))
    library.call("nvmlDeviceGetCudaComputeCapability", handle, ctypes.byref(major), ctypes.byref(minor))
    name, uuid = (library.text(name, handle) for name in ("nvmlDeviceGetName", "nvmlDeviceGetUUID"))
    return Gpu(name, uuid, int(memory.total), (major.value, minor.value))
