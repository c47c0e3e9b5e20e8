"""Leases: their time, their joining, and what an error leaves behind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from runtime.backend import DecodeBatch, DecodeOutput, Placement, Prefix
from runtime.budgets import Budgets
from runtime.errors import BackendContractError, BackendError, InvalidRequest, Overloaded, UnknownBatch
from runtime.hookspecs import hookimpl
from support.arithmetic import FAILS, FAILS_LATER, NOT_A_NUMBER, ArithmeticBackend, expected
from support.leasing import IDLE, Bench, row, told
from support.serving import LIMITS, MODEL

ONE, TWO = (1, 500, 600), (1, 410)


def test_idle_lease_expires() -> None:
    """At its time, not before; the rows are free in the table and in the backend, and the batch is unknown."""
    bench = Bench()
    batch = bench.prefill({1: ONE, 2: TWO})
    bench.leases.concatenate([batch])
    assert set(bench.backend.slots) == {0, 1}
    bench.pass_time(IDLE - 0.001)
    assert bench.slots.free_count == 2
    bench.pass_time(0.001)
    assert bench.slots.free_count == 4
    assert bench.slots.free_tokens == bench.slots.tokens
    assert not bench.backend.slots
    with pytest.raises(UnknownBatch, match=f"no batch {batch}; it ended, was released or its lease expired"):
        bench.leases.decode([batch])


@pytest.mark.parametrize("touch", ["concatenate", "decode", "filter"])
def test_touching_renews(touch: str) -> None:
    """Each operation on a batch gives it the whole time again."""
    bench = Bench()
    batch = bench.prefill({1: ONE, 2: TWO})
    bench.pass_time(IDLE - 1)
    match touch:
        case "concatenate":
            bench.leases.concatenate([batch])
        case "decode":
            bench.leases.decode([batch])
        case "filter":
            bench.leases.filter(batch, [1, 2])
    bench.pass_time(IDLE - 1)
    assert told(bench.leases.decode([batch])).keys() == {1, 2}


def test_expiry_leaves_other_batches() -> None:
    """Each batch has its own time."""
    bench = Bench()
    first = bench.prefill({1: ONE})
    bench.pass_time(6)
    second = bench.prefill({1: TWO})
    bench.pass_time(6)
    with pytest.raises(UnknownBatch):
        bench.leases.decode([first])
    assert told(bench.leases.decode([second])) == {1: expected(TWO, 2)[1:]}
    assert bench.slots.free_count == 3


def test_refused_touch_does_not_renew() -> None:
    """Asking for what is not there keeps nothing alive."""
    bench = Bench()
    batch = bench.prefill({1: ONE})
    bench.pass_time(IDLE - 1)
    with pytest.raises(InvalidRequest):
        bench.leases.filter(batch, [7])
    with pytest.raises(UnknownBatch):
        bench.leases.decode([batch, 99])
    bench.pass_time(1)
    assert bench.slots.free_count == 4


def test_time_to_the_next_expiry() -> None:
    """What the device thread may sleep: None without leases, never negative."""
    bench = Bench()
    assert bench.leases.seconds_to_expiry is None
    bench.prefill({1: ONE})
    bench.now += 4
    bench.prefill({1: ONE})
    assert bench.leases.seconds_to_expiry == 6
    bench.now += 7
    assert bench.leases.seconds_to_expiry == 0
    bench.leases.release(None)
    assert bench.leases.seconds_to_expiry is None


def test_joined_batch_has_one_lease() -> None:
    """The first id stays, renewed; the second is no batch any more."""
    bench = Bench()
    first, second = bench.prefill({1: ONE}), bench.prefill({2: TWO})
    bench.pass_time(IDLE - 1)
    assert bench.leases.concatenate([first, second]).request_ids == (1, 2)
    bench.pass_time(IDLE - 1)
    assert told(bench.leases.decode([first])) == {1: [602], 2: expected(TWO, 2)[1:]}
    with pytest.raises(UnknownBatch):
        bench.leases.release(second)


def test_filtered_before_it_was_placed() -> None:
    """A row that is dropped between prefill and concatenate never reaches the decode batch."""
    bench = Bench()
    batch = bench.prefill({1: ONE, 2: TWO})
    bench.leases.filter(batch, [2])
    bench.leases.concatenate([batch])
    assert set(bench.backend.slots) == {1}
    assert told(bench.leases.decode([batch])) == {2: expected(TWO, 2)[1:]}


def test_each_prefix_is_placed_once() -> None:
    """Placing it again would put the rows back to where their prompts ended."""
    placed: list[int] = []

    class Recording(ArithmeticBackend):
        @hookimpl
        def concatenate(self, prefix: Prefix[Any], placements: Sequence[Placement]) -> None:
            placed.extend(placement.slot for placement in placements)
            super().concatenate(prefix, placements)

    bench = Bench(Recording(MODEL.vocabulary, LIMITS))
    batch = bench.prefill({1: ONE, 2: TWO})
    bench.leases.decode([batch])
    bench.leases.decode([batch, bench.prefill({3: ONE})])
    bench.leases.concatenate([batch])
    assert placed == [0, 1, 2]


def test_a_long_step_does_not_count_as_idle() -> None:
    """The time begins when the caller gets the answer."""

    class Slow(ArithmeticBackend):
        @hookimpl
        def decode(self, batch: DecodeBatch) -> DecodeOutput:
            bench.now += 2 * IDLE
            return super().decode(batch)

    bench = Bench(Slow(MODEL.vocabulary, LIMITS))
    batch = bench.prefill({1: ONE})
    bench.leases.decode([batch])
    bench.pass_time(IDLE - 1)
    assert told(bench.leases.decode([batch])) == {1: [604]}


def test_refused_concatenate_changes_nothing() -> None:
    """Both batches go on apart."""
    bench = Bench()
    first, second = bench.prefill({1: ONE}), bench.prefill({1: TWO})
    for wrong in ([], [first, first], [first, second]):
        with pytest.raises(InvalidRequest, match="`batches`"):
            bench.leases.concatenate(wrong)
    assert told(bench.leases.decode([first])) == {1: [602]}
    assert told(bench.leases.decode([second])) == {1: expected(TWO, 2)[1:]}


def test_tokens_of_the_rows_are_told() -> None:
    """3 + 2 tokens of prompts and a token each; then one more each."""
    bench = Bench()
    result = bench.leases.prefill([(1, row(ONE)), (2, row(TWO))])
    assert result.batch is not None
    assert result.batch.max_tokens == 7
    step = bench.leases.decode([result.batch.id])
    assert step.batch is not None
    assert step.batch.max_tokens == 9


def test_failing_concatenate_ends_its_batch_only() -> None:
    """The batch that could not be placed is gone and its rows are free; the other one is whole."""

    class Failing(ArithmeticBackend):
        @hookimpl
        def concatenate(self, prefix: Prefix[Any], placements: Sequence[Placement]) -> None:
            if any(placement.slot == 1 for placement in placements):
                raise RuntimeError("told to fail")
            super().concatenate(prefix, placements)

    bench = Bench(Failing(MODEL.vocabulary, LIMITS))
    first, second = bench.prefill({1: ONE}), bench.prefill({2: TWO})
    with pytest.raises(BackendError, match="failed in concatenate"):
        bench.leases.concatenate([first, second])
    with pytest.raises(UnknownBatch):
        bench.leases.release(second)
    assert bench.slots.free_count == 3
    assert told(bench.leases.decode([first])) == {1: [602]}


@pytest.mark.parametrize(
    ("prompt", "error"), [(FAILS, BackendError), (NOT_A_NUMBER, BackendContractError), (FAILS_LATER, BackendError)]
)
def test_failing_step_frees_every_row(prompt: int, error: type[Exception]) -> None:
    """Those of healthy requests of the same batch too, and the batch is gone."""
    bench = Bench()
    with pytest.raises(error):
        bench.leases.decode([bench.prefill({1: ONE, 2: [1, prompt]})])
    assert bench.slots.free_count == 4
    assert not bench.backend.slots
    with pytest.raises(UnknownBatch):
        bench.leases.release(1)


def test_more_tokens_than_are_free() -> None:
    """Rows are charged with what they may come to hold, and refused when that is not there now."""
    bench = Bench(budgets=Budgets(prefill_tokens=96, total_tokens=20))
    batch = bench.prefill({1: ONE}, count=8)
    with pytest.raises(Overloaded, match="10 tokens wanted, 9 of 20 are free now"):
        bench.prefill({2: TWO}, count=8)
    bench.leases.release(batch)
    bench.prefill({2: TWO}, count=8)


def test_more_tokens_than_there_are() -> None:
    """Trying again later would not help."""
    bench = Bench(budgets=Budgets(prefill_tokens=96, total_tokens=20))
    with pytest.raises(InvalidRequest, match="may come to hold 21 tokens; all rows together hold 20"):
        bench.prefill({1: ONE, 2: TWO})
    assert bench.slots.free_count == 4


def test_more_prefill_than_one_takes() -> None:
    """Padded to the longest: two rows of 3 tokens cost 6."""
    bench = Bench(budgets=Budgets(prefill_tokens=5, total_tokens=256))
    with pytest.raises(InvalidRequest, match=r"`batch\.requests` costs 6 tokens; one prefill takes 5"):
        bench.prefill({1: ONE, 2: TWO})
    assert bench.slots.free_count == 4
