"""Outputs that are read after the next replay of their graph, when VIRTUAL_HPU_STALE_READS asks to count them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import habana_frameworks.torch as bridge
import pytest
import torch
from virtual_device import counters


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_old_outputs_and_their_views_are_stale(mode: Callable[[], AbstractContextManager[None]]) -> None:
    """The new one is not, and neither is a clone; in inference mode reads are noticed too."""
    with mode():
        _read_old_outputs()


def _read_old_outputs() -> None:
    double = bridge.hpu.wrap_in_hpu_graph_func(lambda x: x * 2)
    old = double(torch.ones(2, device="hpu"))
    view, kept = old[:1], old.clone()
    new = double(torch.zeros(2, device="hpu"))
    before = counters.snapshot()
    assert new.cpu().tolist() == [0.0, 0.0]
    assert (counters.snapshot() - before).host_reads == 1
    assert (kept + 0).tolist() == [2.0, 2.0]
    assert not (counters.snapshot() - before).stale_reads
    old + 1, view + 1, double(old)
    stale = (counters.snapshot() - before).stale_reads
    assert stale.total() == 3
    assert all(site.startswith("stale_reads.py:") for site in stale)
