"""Which rows run next: slots, room, shapes and parts of prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from runtime.backend import Limits
from runtime.budgets import Budgets, Demand
from runtime.errors import InvalidRequest
from runtime.scheduler import PrefillStep, Scheduler
from runtime.slots import SlotTable
from support.scheduling import GUIDE, LARGE, SMALL, Fixture


@dataclass(frozen=True)
class Table:
    """A shape plan made up of (rows, longest) pairs."""

    shapes: tuple[tuple[int, int], ...]

    def fits(self, rows: int, longest: int) -> bool:
        return any(rows == each and longest <= length for each, length in self.shapes)


def test_idle_without_requests() -> None:
    """Nothing to do is told as such."""
    plan = Fixture()
    assert not plan.scheduler.has_step(0)
    assert plan.step() == "idle"


def test_prefill_takes_the_oldest_up_to_its_rows() -> None:
    """Among equals, first come, first served, each into the lowest free slot."""
    plan = Fixture()
    plan.add("abc")
    assert plan.scheduler.next_step(0) == PrefillStep((("a", 0), ("b", 1)))


def test_running_rows_step_between_prefills() -> None:
    """A crowd of newcomers costs the running streams one step in two at most."""
    plan = Fixture()
    plan.add("abcd")
    assert [plan.step() for _ in range(4)] == ["prefill ab", "decode ab", "prefill cd", "decode abcd"]


def test_prefill_tells_why_running_rows_wait_for_it() -> None:
    """Nobody does at first; then as many newcomers come as run; then one that had to wait for two decode steps."""
    budgets = Budgets(LARGE, LARGE, waiting_served_ratio=1.0, max_waiting_tokens=2)
    plan = Fixture(slots=5, budgets=budgets)
    told = []
    for newcomers, decodes in (("ab", 0), ("cd", 1), ("e", 2)):
        plan.add(newcomers)
        assert [plan.step()[:6] for _ in range(decodes)] == ["decode"] * decodes
        step = plan.scheduler.next_step(0)
        assert isinstance(step, PrefillStep)
        told.append(step.concat)
    assert told == [None, "backpressure", "wait_exceeded"]


def test_prefill_follows_prefill_when_nothing_runs() -> None:
    """Requests that end with their first token do not make the next ones wait."""
    plan = Fixture()
    plan.add("abc")
    plan.step()
    plan.remove("ab")
    assert plan.step() == "prefill c"


def test_a_freed_slot_goes_to_the_next_in_line() -> None:
    """A request waits for a slot and gets the one given back."""
    plan = Fixture(slots=1)
    plan.add("ab")
    assert [plan.step(), plan.step()] == ["prefill a", "decode a"]
    assert plan.scheduler.remove("a") == 0
    assert plan.scheduler.next_step(0) == PrefillStep((("b", 0),))


def test_removing_what_waits_or_is_unknown_frees_nothing() -> None:
    """A request cancelled in the queue never runs; one that is gone is no error."""
    plan = Fixture()
    plan.add("a")
    assert plan.scheduler.remove("a") is None
    assert plan.scheduler.remove("never seen") is None
    assert plan.step() == "idle"


def test_cancelling_a_running_request_frees_row_and_tokens() -> None:
    """Right after its prefill, and while it decodes, at once and in full."""
    plan = Fixture(slots=2, budgets=Budgets(prefill_tokens=100, total_tokens=100))
    for cancelled_after in (1, 2):
        plan.add("a", Demand(50, 100))
        plan.add("b", Demand(60, 100))
        for _ in range(cancelled_after):
            plan.step()
        plan.remove("a")
        assert plan.table.free_tokens == 100
        assert plan.step() == "prefill b"
        plan.remove("b")


def test_guide_s_capacity_with_full_requests() -> None:
    """4 prompts of 4096 in one prefill, and 4 rows of 8192 decode together, however many slots there are."""
    plan = Fixture(slots=16, prefill_rows=16, budgets=GUIDE)
    plan.add("abcdefgh", Demand(4096, 8192))
    assert plan.step() == "prefill abcd"
    assert {plan.step() for _ in range(50)} == {"decode abcd"}
    plan.remove("b")
    assert plan.step() == "prefill e"
    assert plan.step() == "decode acde"


def test_guide_s_capacity_with_short_requests() -> None:
    """Requests of an eighth share the same budgets: 16, as many as there are slots."""
    plan = Fixture(slots=16, prefill_rows=16, budgets=GUIDE)
    plan.add("abcdefghijklmnopqrst", Demand(512, 1024))
    assert plan.step() == "prefill abcdefghijklmnop"
    assert plan.step() == "decode abcdefghijklmnop"


def test_padding_counts() -> None:
    """Three prompts of 10 and one of 70 cost 280 padded and 100 in sum."""
    for padded, first in ((True, "abc"), (False, "abcd")):
        plan = Fixture(slots=8, prefill_rows=4, budgets=Budgets(prefill_tokens=100, total_tokens=LARGE, padded=padded))
        plan.add("abc", Demand(10, 20))
        plan.add("d", Demand(70, 80))
        assert plan.step() == f"prefill {first}"


def test_parts_take_turns_with_decode_steps() -> None:
    """A prompt of three parts between the tokens of the rows that run; then it joins them."""
    plan = Fixture()
    plan.add("a")
    plan.step()
    plan.step()
    plan.add("b")
    assert [plan.part(), plan.step(), plan.part(), plan.step()] == ["prefill b", "decode a", "continue b", "decode a"]
    assert [plan.step(), plan.step()] == ["continue b", "decode ab"]


def test_parts_follow_each_other_when_nobody_else_runs() -> None:
    """Prompts that were begun together go on together; one that is whole decodes meanwhile."""
    plan = Fixture()
    plan.add("ab")
    assert [plan.part(), plan.part()] == ["prefill ab", "continue ab"]
    assert plan.step() == "continue ab"
    plan.scheduler.hold("a")
    assert [plan.step(), plan.step(), plan.step()] == ["decode b", "continue a", "decode ab"]


def test_nobody_is_admitted_between_parts() -> None:
    """However many wait and however much room there is."""
    plan = Fixture(slots=8)
    plan.add("a")
    plan.part()
    plan.add("bcd")
    assert [plan.step(), plan.step()] == ["continue a", "decode a"]
    assert plan.step() == "prefill bc"


def test_cancelled_between_parts() -> None:
    """Its row is free, and it goes on no more; to hold what is gone is no error."""
    plan = Fixture(slots=1)
    plan.add("a")
    plan.part()
    assert plan.scheduler.remove("a") == 0
    plan.scheduler.hold("a")
    assert plan.step() == "idle"
    plan.add("b")
    assert plan.step() == "prefill b"


def test_row_is_placed_where_the_caller_says() -> None:
    """The caller sees who starts and which slots are free at that moment."""
    asked: list[tuple[str, list[int]]] = []

    def highest(key: str, free: Sequence[int]) -> int:
        asked.append((key, list(free)))
        return free[-1]

    table = SlotTable(3, LARGE)
    scheduler: Scheduler[str] = Scheduler(table, 2, Budgets(LARGE, LARGE), place=highest)
    for key in "ab":
        scheduler.add(key, SMALL, 0)
    assert scheduler.next_step(0) == PrefillStep((("a", 2), ("b", 1)))
    assert asked == [("a", [0, 1, 2]), ("b", [0, 1])]


def test_what_can_never_fit_is_refused() -> None:
    """A request larger than a budget or any shape would block the queue for ever."""
    plan = Fixture(budgets=Budgets(prefill_tokens=100, total_tokens=200), shapes=Table(((1, 64),)))
    plan.add("a", Demand(64, 200))
    with pytest.raises(InvalidRequest, match="takes 101 tokens and one prefill takes 100"):
        plan.add("b", Demand(101, 120))
    with pytest.raises(InvalidRequest, match="take 201 tokens and all requests together 200"):
        plan.add("b", Demand(64, 201))
    with pytest.raises(InvalidRequest, match="takes 65 tokens and no prefill is so long"):
        plan.add("b", Demand(65, 100))
    plan.remove("a")
    assert plan.step() == "idle"


def test_step_operations_share_the_budget() -> None:
    """Tokens held by a lease are not there for requests, until it ends."""
    plan = Fixture(budgets=Budgets(prefill_tokens=100, total_tokens=100))
    held = plan.table.lease(80)
    plan.add("a", Demand(10, 30))
    assert plan.step() == "idle"
    plan.table.release(held)
    assert plan.step() == "prefill a"


def test_only_planned_shapes_are_formed() -> None:
    """With shapes for 1, 2 and 4 rows, three requests make two and one."""
    plan = Fixture(slots=8, prefill_rows=8, shapes=Table(((1, 64), (2, 64), (4, 32))))
    plan.add("abc", Demand(32, 40))
    assert [plan.step(), plan.step(), plan.step()] == ["prefill ab", "decode ab", "prefill c"]
    plan.remove("abc")
    plan.add("defg", Demand(32, 40))
    assert plan.step() == "prefill defg"
    plan.remove("defg")
    plan.add("hijk", Demand(33, 40))
    assert plan.step() == "prefill hi"


def test_budgets_of_limits_admit_every_slot() -> None:
    """Without budgets of the operator only slots and prefill rows bind."""
    budgets = Budgets.of(limits := Limits(rows=6, context=64, prefill_rows=3, prefill_tokens=48))
    plan = Fixture(limits.rows, limits.prefill_rows, budgets)
    plan.add("abcdefg", Demand(48, 64))
    assert [plan.step() for _ in range(4)] == ["prefill abc", "decode abc", "prefill def", "decode abcdef"]
