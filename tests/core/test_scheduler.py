"""What runs next."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from runtime.scheduler import DecodeStep, PrefillStep, Scheduler
from runtime.slots import SlotTable


def scheduler(slots: int = 4, prefill_rows: int = 2) -> Scheduler[str]:
    return Scheduler(SlotTable(slots), prefill_rows)


def test_idle_without_requests() -> None:
    """Nothing to do is told as such."""
    plan = scheduler()
    assert not plan.has_step
    assert plan.next_step() is None


def test_prefill_takes_the_oldest_up_to_its_rows() -> None:
    """First come, first served, each into the lowest free slot."""
    plan = scheduler()
    for key in "abc":
        plan.add(key)
    assert plan.next_step() == PrefillStep((("a", 0), ("b", 1)))


def test_running_rows_step_between_prefills() -> None:
    """A crowd of newcomers costs the running streams one step in two at most."""
    plan = scheduler()
    for key in "abcd":
        plan.add(key)
    assert plan.next_step() == PrefillStep((("a", 0), ("b", 1)))
    assert plan.next_step() == DecodeStep(("a", "b"))
    assert plan.next_step() == PrefillStep((("c", 2), ("d", 3)))
    assert plan.next_step() == DecodeStep(("a", "b", "c", "d"))


def test_prefill_follows_prefill_when_nothing_runs() -> None:
    """Requests that end with their first token do not make the next ones wait."""
    plan = scheduler()
    for key in "abc":
        plan.add(key)
    plan.next_step()
    plan.remove("a")
    plan.remove("b")
    assert plan.next_step() == PrefillStep((("c", 0),))


def test_a_freed_slot_goes_to_the_next_in_line() -> None:
    """A request waits for a slot and gets the one given back."""
    plan = scheduler(slots=1)
    plan.add("a")
    plan.add("b")
    plan.next_step()
    assert plan.next_step() == DecodeStep(("a",))
    assert plan.remove("a") == 0
    assert plan.next_step() == PrefillStep((("b", 0),))


def test_removing_what_waits_or_is_unknown_frees_nothing() -> None:
    """A request cancelled in the queue never runs; one that is gone is no error."""
    plan = scheduler()
    plan.add("a")
    assert plan.remove("a") is None
    assert plan.remove("never seen") is None
    assert plan.next_step() is None


@given(st.lists(st.sampled_from(["add", "step", "finish"]), max_size=80), st.integers(1, 4), st.integers(1, 3))
def test_everyone_is_served_in_order(actions: list[str], slots: int, prefill_rows: int) -> None:
    """Over any history, prefills happen in order of arrival, slots are never shared, and all end once asked."""
    table = SlotTable(slots)
    plan: Scheduler[int] = Scheduler(table, prefill_rows)
    arrived, prefilled, running = 0, [], {}

    def step() -> None:
        match plan.next_step():
            case PrefillStep(placed):
                assert 1 <= len(placed) <= prefill_rows
                for key, slot in placed:
                    assert slot not in running.values()
                    running[key] = slot
                    prefilled.append(key)
            case DecodeStep(keys):
                assert set(keys) == set(running)

    for action in actions:
        if action == "add":
            plan.add(arrived)
            arrived += 1
        elif action == "step":
            step()
        elif running:
            key = next(iter(running))
            assert plan.remove(key) == running.pop(key)
    while plan.has_step:
        step()
        while running:
            plan.remove(running.popitem()[0])
    assert prefilled == list(range(arrived))
    assert table.free_count == slots
