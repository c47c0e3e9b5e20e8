"""Slots are leased once at a time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime.slots import SlotTable


def test_lowest_free_slot_first() -> None:
    """A slot given back is the next to be leased when it is the lowest."""
    table = SlotTable(3)
    assert [table.lease(), table.lease()] == [0, 1]
    table.release(0)
    assert table.lease() == 0
    assert table.free_count == 1


def test_release_of_a_free_slot_is_loud() -> None:
    """Two rows would share a slot if this went unnoticed."""
    table = SlotTable(2)
    table.release(table.lease())
    with pytest.raises(KeyError):
        table.release(0)


@given(st.lists(st.integers(0, 7), max_size=60))
def test_no_slot_is_held_twice(choices: list[int]) -> None:
    """Over any order of leases and releases, held and free slots are a partition of the table."""
    table, held = SlotTable(4), []
    for choice in choices:
        if choice % 2 and held:
            table.release(held.pop(choice % len(held)))
        elif table.free_count:
            held.append(table.lease())
        assert len(set(held)) == len(held)
        assert set(held) <= set(range(4))
        assert table.free_count == 4 - len(held)
