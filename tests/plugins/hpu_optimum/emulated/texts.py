"""Texts: the oracle's tokens, through joins, leaves, idle rows and packed columns. Run in a process of its own."""

from __future__ import annotations

import pytest
import torch
from habana_frameworks.torch.utils.internal import is_lazy
from runtime.backend import DecodeBatch, DecodeShape, Limits, WarmupProgress
from runtime_hpu_optimum.columns import Columns
from support.agreement import NOISE
from support.optimum import LIMITS, MODEL, backend, plan, traffic
from virtual_device import counters

NOBODY = torch.zeros(LIMITS.rows, dtype=torch.int64)


@pytest.mark.parametrize("flash", [False, True])
@pytest.mark.parametrize("seed", range(2))
def test_tokens_are_the_oracles(seed: int, flash: bool) -> None:
    """In fp32, with and without the fused kernel."""
    both = traffic(backend(flash=flash), seed, pictures=False)
    both.run(100)
    assert max(both.differences) < NOISE


def test_slots_survive_the_packing_of_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows come and go through more steps than there are columns."""
    packed: list[int] = []
    pack = Columns.pack
    monkeypatch.setattr(Columns, "pack", lambda self: packed.append(self.next) or pack(self))
    monkeypatch.setattr("runtime_hpu_optimum.cache.SPARE", 4)
    limits = Limits(rows=3, context=40, prefill_rows=2, prefill_tokens=20)
    both = traffic(backend(flash=True, limits=limits), 7, pictures=False, limits=limits)
    both.longest = 15
    both.run(150)
    assert max(both.differences) < NOISE
    assert len(packed) > 1


def test_a_warm_server_records_nothing_more() -> None:
    """Every step is a replay and reads the scores only; in eager mode there are no graphs."""
    tested = backend(flash=True)
    seen: list[WarmupProgress] = []
    tested.warmup(plan(), seen.append)
    assert {progress.shape for progress in seen} == {*plan().prefill, *plan().decode, *plan().vision}
    before = counters.snapshot()
    for rows in (1, LIMITS.rows):
        tested.decode(DecodeBatch(DecodeShape(rows, 128), NOBODY[:rows], NOBODY[:rows], NOBODY[:rows].bool()))
    spent = counters.snapshot() - before
    assert spent.captures.total() == 0
    assert spent.replays.total() == (2 if is_lazy() else 0)
    assert spent.host_reads == 2
    assert spent.compilations == 0


def test_what_a_slot_does_not_hold_is_refused() -> None:
    """Core and backend disagree then."""
    active = NOBODY.bool()
    active[1] = True
    with pytest.raises(ValueError, match="slot 1 holds 0 tokens but position 5 was asked for"):
        backend(flash=False).decode(DecodeBatch(DecodeShape(4, 128), NOBODY, NOBODY + 5, active))


def test_answers_have_the_shape_of_the_batch() -> None:
    """Though every row is computed."""
    batch = DecodeBatch(DecodeShape(2, 128), NOBODY[:2], NOBODY[:2], NOBODY[:2].bool())
    assert backend(flash=False).decode(batch).logits.shape == (2, MODEL.vocabulary)
