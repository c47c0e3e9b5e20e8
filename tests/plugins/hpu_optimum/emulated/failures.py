"""A device that fails. Run in a process of its own; the second test ends the device for good."""

from __future__ import annotations

import pytest
from runtime.errors import DeviceLost
from runtime.static.warmup import empty_decode
from support.optimum import backend, plan
from virtual_device import faults

BATCH = empty_decode(plan().decode[0])


def test_a_lack_of_memory_is_survived() -> None:
    """It fails the step only."""
    tested = backend(flash=False)
    faults.strike("memory")
    with pytest.raises(RuntimeError, match="Allocation failed"):
        tested.decode(BATCH)
    assert tested.decode(BATCH).logits.isfinite().all()


def test_any_other_error_ends_the_worker() -> None:
    """Nobody knows what the device holds then."""
    tested = backend(flash=False)
    faults.strike("fatal")
    with pytest.raises(DeviceLost, match="try again"):
        tested.decode(BATCH)
