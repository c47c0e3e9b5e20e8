"""Who waits for whom: when newcomers interrupt, and who goes first."""

from __future__ import annotations

import pytest
from runtime.budgets import Budgets, Demand
from support.scheduling import LARGE, Fixture


def test_newcomers_interrupt_in_numbers() -> None:
    """With 10 rows running and a ratio of 0.3, two wait and the third lets all three in."""
    plan = Fixture(slots=64, prefill_rows=16, budgets=Budgets(prefill_tokens=LARGE, total_tokens=LARGE))
    plan.add("abcdefghij")
    plan.step()
    plan.step()
    plan.add("kl")
    assert plan.step() == "decode abcdefghij"
    plan.add("m")
    assert plan.step() == "prefill klm"


def test_a_prefill_that_room_may_enlarge_is_held() -> None:
    """One of two newcomers fits: they wait until a row ends, and then go together."""
    budgets = Budgets(prefill_tokens=LARGE, total_tokens=100, waiting_served_ratio=0.5)
    plan = Fixture(slots=64, prefill_rows=16, budgets=budgets)
    plan.add("abcd", Demand(10, 20))
    plan.step()
    plan.step()
    plan.add("ef", Demand(10, 20))
    assert plan.step() == "decode abcd"
    plan.remove("a")
    assert plan.step() == "prefill ef"


def test_small_batches_are_interrupted_at_once() -> None:
    """0.3 of three rows is no row, as in TGI."""
    plan = Fixture(slots=8, prefill_rows=4, budgets=Budgets(prefill_tokens=LARGE, total_tokens=LARGE))
    plan.add("abc")
    assert [plan.step(), plan.step()] == ["prefill abc", "decode abc"]
    plan.add("d")
    assert plan.step() == "prefill d"


@pytest.mark.parametrize("steps", [0, 1, 5, 20])
def test_a_single_newcomer_is_held_for_so_many_steps_only(steps: int) -> None:
    """`max_waiting_tokens` bounds the wait; the rows that run get one step whatever it is."""
    budgets = Budgets(LARGE, LARGE, waiting_served_ratio=1.0, max_waiting_tokens=steps)
    plan = Fixture(slots=64, prefill_rows=16, budgets=budgets)
    plan.add("abcdefgh")
    plan.step()
    plan.add("i")
    assert plan.decodes_until_prefill() == max(1, steps)


def test_steps_count_from_the_last_prefill() -> None:
    """After a long time without a prefill the next newcomer interrupts at once."""
    budgets = Budgets(LARGE, LARGE, waiting_served_ratio=1.0, max_waiting_tokens=5)
    plan = Fixture(slots=64, prefill_rows=16, budgets=budgets)
    plan.add("abcdefgh")
    for _ in range(6):
        plan.step()
    plan.add("i")
    assert plan.decodes_until_prefill() == 0


def test_a_full_prefill_is_always_worth_it() -> None:
    """No more than one prefill can take is waited for, be its limit in rows or in tokens."""
    for prefill_rows, tokens in ((2, LARGE), (16, 50)):
        budgets = Budgets(prefill_tokens=tokens, total_tokens=LARGE, waiting_served_ratio=1.0)
        plan = Fixture(slots=64, prefill_rows=prefill_rows, budgets=budgets)
        plan.add("abcdefgh")
        while plan.step() != "decode abcdefgh":
            pass
        plan.add("ijk", Demand(25, 30))
        assert plan.step() == "prefill ij"


def test_shorter_first_until_overdue() -> None:
    """Below the threshold the shortest prompt goes first; from then on the oldest."""
    for age, order in ((119, "cab"), (120, "abc")):
        plan = Fixture(slots=8, prefill_rows=4)
        plan.add("a", Demand(30, 40))
        plan.add("b", Demand(30, 50))
        plan.milliseconds = 100 if age < 120 else 0
        plan.add("c", Demand(10, 90))
        plan.milliseconds = age
        assert plan.step() == f"prefill {order}"


def test_among_prompts_of_a_length_the_shorter_reply_goes_first() -> None:
    """The padded total decides between equal prompts, and arrival between equals."""
    plan = Fixture(slots=8, prefill_rows=4)
    plan.add("a", Demand(10, 40))
    plan.add("bc", Demand(10, 30))
    assert plan.step() == "prefill bca"


def test_overdue_go_before_shorter_newcomers() -> None:
    """The overdue in order of arrival, whatever their length, then the shortest of the rest."""
    plan = Fixture(slots=8, prefill_rows=8)
    plan.add("a", Demand(50, 60))
    plan.add("b", Demand(40, 60))
    plan.milliseconds = 100
    plan.add("c", Demand(20, 30))
    plan.add("d", Demand(10, 20))
    plan.milliseconds = 120
    assert plan.step() == "prefill abdc"


def test_threshold_of_zero_is_first_come_first_served() -> None:
    """Length does not matter then."""
    plan = Fixture(prefill_rows=4, budgets=Budgets(LARGE, LARGE, queue_threshold_ms=0))
    for key, length in zip("abcd", (4, 3, 2, 1), strict=True):
        plan.add(key, Demand(length, 5))
    assert plan.step() == "prefill abcd"


def test_the_first_in_line_is_not_overtaken() -> None:
    """A long request that does not fit yet keeps its place: small ones behind it wait, and room collects."""
    plan = Fixture(budgets=Budgets(prefill_tokens=100, total_tokens=100))
    plan.add("ab", Demand(10, 40))
    assert plan.step() == "prefill ab"
    plan.add("c", Demand(80, 100))
    plan.milliseconds = 200
    plan.add("d", Demand(1, 2))
    plan.remove("a")
    assert plan.step() == "decode b"
    plan.remove("b")
    assert plan.step() == "prefill c"


def test_queue_tells_when_its_order_changes() -> None:
    """Nothing runs, a lease leaves room for one request only, and that one comes first once it is overdue."""
    plan = Fixture(budgets=Budgets(prefill_tokens=100, total_tokens=100))
    plan.table.lease(50)
    plan.add("a", Demand(20, 40))
    plan.milliseconds = 20
    plan.add("b", Demand(10, 60))
    assert plan.step() == "idle"
    assert plan.scheduler.seconds_to_reorder(0.02) == pytest.approx(0.1)
    plan.milliseconds = 120
    assert plan.scheduler.seconds_to_reorder(0.12) is None
    assert plan.step() == "prefill a"
