"""Slots are leased once at a time, and the tokens they share are accounted for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime.slots import SlotTable


def test_lowest_free_slot_first() -> None:
    """A slot given back is the next to be leased when it is the lowest."""
    table = SlotTable(3, 30)
    assert [table.lease(10), table.lease(10)] == [0, 1]
    table.release(0)
    assert table.lease(10) == 0
    assert table.free_count == 1


def test_chosen_slot() -> None:
    """Any that is free can be leased; one that is taken never, nor one there is not."""
    table = SlotTable(3, 30)
    assert table.lease(10, 2) == 2
    assert list(table.free) == [0, 1]
    for wrong in (2, 3):
        with pytest.raises(ValueError):  # noqa: PT011  # whatever it says: it is a bug of ours
            table.lease(10, wrong)
    assert table.free_tokens == 20
    table.release(2)
    assert list(table.free) == [0, 1, 2]


def test_a_slot_takes_its_tokens_with_it() -> None:
    """Each lease is charged until it is released."""
    table = SlotTable(3, 30)
    first, second = table.lease(7), table.lease(20)
    assert table.free_tokens == 3
    table.release(second)
    assert table.free_tokens == 23
    table.release(first)
    assert table.free_tokens == table.tokens


def test_release_of_a_free_slot_is_loud() -> None:
    """Two rows would share a slot if this went unnoticed."""
    table = SlotTable(2, 20)
    table.release(table.lease(10))
    with pytest.raises(KeyError):
        table.release(0)


@given(st.lists(st.integers(0, 7), max_size=60))
def test_no_slot_is_held_twice(choices: list[int]) -> None:
    """Over any order of leases and releases, held and free slots are a partition of the table."""
    table = SlotTable(4, 100)
    held: dict[int, int] = {}
    for choice in choices:
        if choice % 2 and held:
            slot = list(held)[choice % len(held)]
            table.release(slot)
            del held[slot]
        elif table.free_count:
            slot = table.lease(choice)
            assert slot not in held
            held[slot] = choice
        assert set(held) <= set(range(4))
        assert table.free_count == 4 - len(held)
        assert table.free_tokens == 100 - sum(held.values())
