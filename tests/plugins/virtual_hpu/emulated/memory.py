"""Bytes of the virtual device, and faults on demand. Run by test_emulated.py, with a device of 1 GiB."""

from __future__ import annotations

import gc

import habana_frameworks.torch
import pytest
import torch
from virtual_device import counters, faults

assert habana_frameworks.torch.__emulated__
LIMIT = 2**30


def test_a_view_keeps_the_bytes_of_its_base() -> None:
    """They are given back with the last tensor in them."""
    gc.collect()
    before = torch.hpu.memory_allocated()
    base = torch.zeros(1000, device="hpu")
    view = base[:10]
    assert torch.hpu.memory_allocated() == before + 4000
    del base
    assert torch.hpu.memory_allocated() == before + 4000
    del view
    assert torch.hpu.memory_allocated() == before


def test_free_is_the_limit_less_what_is_in_use() -> None:
    """As the vendor computes it; what is reserved is all there is."""
    held = torch.zeros(2**20, device="hpu")
    free, total = torch.hpu.mem_get_info()
    assert total == LIMIT == torch.hpu.memory_reserved() == torch.hpu.memory_stats()["Limit"]
    assert free == LIMIT - torch.hpu.memory_allocated()
    assert torch.hpu.max_memory_allocated() >= held.nbytes


def test_the_peak_starts_anew() -> None:
    """From what is in use at that moment."""
    torch.zeros(2**20, device="hpu")
    torch.hpu.reset_peak_memory_stats()
    assert torch.hpu.max_memory_allocated() == torch.hpu.memory_allocated()


def test_beyond_the_limit_nothing_is_given() -> None:
    """In the vendor's words, and the device goes on."""
    with pytest.raises(RuntimeError, match=r"Allocation failed for size::2147483648 \(2048\.0\)MB"):
        torch.empty(2**29, device="hpu")
    assert torch.ones(1, device="hpu").item() == 1


def test_memory_that_fails_once() -> None:
    """At the operation that was asked for."""
    x = torch.ones(2, device="hpu")
    faults.strike("memory", after=1)
    y = x + 1
    with pytest.raises(RuntimeError, match="Allocation failed"):
        y + 1
    assert (y + 1).tolist() == [3.0, 3.0]


def test_other_devices_do_not_exist() -> None:
    """One card per process."""
    with pytest.raises(AssertionError):
        torch.hpu.memory_allocated(1)
    with pytest.raises(ValueError, match="Expected a hpu device"):
        torch.hpu.memory_allocated("cpu")


def test_zz_a_dead_device_stays_dead() -> None:
    """Every operation fails from then on; last, because nothing works afterwards."""
    x = torch.ones(2, device="hpu")
    faults.strike("fatal")
    for _ in range(2):
        with pytest.raises(RuntimeError, match="Generic failure"):
            x + 1
    with pytest.raises(RuntimeError, match="Generic failure"):
        torch.zeros(2, device="hpu")
    assert counters.snapshot().live_bytes >= 8
