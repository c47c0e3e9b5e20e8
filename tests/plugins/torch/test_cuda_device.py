"""A CUDA device as the toolkit sees it, on a stand-in for `torch.cuda`."""

from __future__ import annotations

import pytest
import torch
from runtime.static.device import Memory
from runtime_torch.cuda_device import CudaDevice
from support.fake_cuda import LOST, install

GIB = 2**30


def test_memory_is_what_the_driver_has_left_without_the_reserve(monkeypatch: pytest.MonkeyPatch) -> None:
    """After what PyTorch kept was given back; never less than nothing."""
    gpu = install(monkeypatch)
    assert CudaDevice(reserve=GIB).memory() == Memory(9 * GIB, 16 * GIB)
    assert gpu.emptied == 1
    gpu.free = GIB // 2
    assert CudaDevice(reserve=GIB).memory() == Memory(0, 16 * GIB)


@pytest.mark.parametrize(
    ("error", "did"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError(LOST), False),
        (RuntimeError("shape '[2]' is invalid for input of size 3"), False),
    ],
)
def test_memory_that_does_not_suffice_is_told_from_other_errors(error: RuntimeError, did: bool) -> None:
    """Also where it is the cause of another error."""
    later = RuntimeError("CUDA error: operation failed due to a previous error during capture")
    later.__context__ = error
    assert CudaDevice(0).ran_out(error) == CudaDevice(0).ran_out(later) == did


def test_a_device_is_lost_when_every_call_fails_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is tried: an error that the device survives is a matter of one step."""
    gpu = install(monkeypatch)
    device, error = CudaDevice(0), RuntimeError("CUDA error: invalid configuration argument")
    assert not device.is_lost(error)
    gpu.is_lost = True
    assert device.is_lost(RuntimeError(LOST))


def test_scores_stay_on_the_device() -> None:
    """Only ids are read, by the sampler."""
    logits = torch.zeros(2, 3)
    assert CudaDevice(0).delivered(logits) is logits
    assert CudaDevice(0).torch_device == torch.device("cuda", 0)
