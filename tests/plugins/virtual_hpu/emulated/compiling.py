"""Eager mode: every operator is a recipe of its own, and torch.compile has the back end of the device."""

from __future__ import annotations

import copy
import logging

import habana_frameworks.torch as bridge
import pytest
import torch
from support.tiny_decoder import LENGTH, Decoder
from torch import Tensor
from virtual_device import counters
from virtual_device.counters import Snapshot


def test_there_are_no_graphs() -> None:
    """The names are missing, they are no stand-ins."""
    for name in ("wrap_in_hpu_graph", "wrap_in_hpu_graph_func", "HPUGraph", "graph", "CachedParams"):
        assert not hasattr(bridge.hpu, name)


def test_steps_do_nothing() -> None:
    """With any arguments."""
    before = counters.snapshot()
    assert bridge.core.mark_step() is None
    assert not (counters.snapshot() - before).mark_steps
    assert logging.getLogger("habana_frameworks.torch.utils.internal")


def test_every_operator_is_compiled_once() -> None:
    """For each shape."""
    before = counters.snapshot()
    for _ in range(3):
        torch.ones(3, 11, 7, device="hpu") * 1.5 + 1
    assert (counters.snapshot() - before).compilations == 3
    torch.ones(4, 11, 7, device="hpu") * 1.5 + 1
    assert (counters.snapshot() - before).compilations == 6


def inputs(length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, positions and slots of two rows."""
    positions = torch.arange(length).expand(2, length).contiguous()
    slots = (torch.arange(2)[:, None] * LENGTH + positions).reshape(-1)
    return torch.ones(2, length, dtype=torch.long).to("hpu"), positions.to("hpu"), slots.to("hpu")


def test_a_compiled_decoder_is_bit_identical() -> None:
    """One graph per shape; a shape that was met costs nothing more."""
    torch.manual_seed(0)
    model = Decoder().eval().requires_grad_(False).to("hpu")
    compiled = torch.compile(copy.deepcopy(model), backend="hpu_backend", fullgraph=True, dynamic=False)
    start = counters.snapshot()
    spent = Snapshot()
    with torch.inference_mode():
        for length in (3, 4, 3, 4):
            given = inputs(length)
            expected = model(*given)[0].cpu()
            before = counters.snapshot()
            found = compiled(*given)[0]
            spent = counters.snapshot() - before
            assert torch.equal(found.cpu(), expected)
    assert (spent.compilations, spent.host_reads, spent.cpu_fallbacks.total()) == (0, 0, 0)
    assert (counters.snapshot() - start).dynamo_graphs == 2


def test_fused_kernels_are_compiled_too() -> None:
    """Attention, norm and rotation are operators of one graph."""
    from habana_frameworks.torch.hpex.kernels import FusedSDPA, apply_rotary_pos_emb
    from habana_frameworks.torch.hpex.normalization import FusedRMSNorm

    def layer(x: Tensor, gamma: Tensor, table: Tensor) -> Tensor:
        x = FusedRMSNorm.apply(x, gamma, 1e-5)
        x = apply_rotary_pos_emb(x, table, table)
        return FusedSDPA.apply(x, x, x, None, 0.0, True, None, "None", True)

    compiled = torch.compile(layer, backend="hpu_backend", fullgraph=True, dynamic=False)
    given = [torch.randn(shape).to("hpu") for shape in ((1, 2, 4, 8), (8,), (4, 8))]
    with torch.inference_mode():
        assert torch.equal(compiled(*given).cpu(), layer(*given).cpu())


def test_mistakes_are_seen_while_tracing() -> None:
    """A tensor of the host, and a branch on a value."""

    def mix(x: Tensor) -> Tensor:
        return x + torch.ones(4)

    def branch(x: Tensor) -> Tensor:
        return x + 1 if x.sum() > 0 else x

    for function, words in ((mix, "same device"), (branch, "Data-dependent branching")):
        torch._dynamo.reset()
        with pytest.raises(Exception, match=words):
            torch.compile(function, backend="hpu_backend", fullgraph=True)(torch.ones(4, device="hpu"))
