"""Where tokens lie, against lists."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from runtime_hpu_optimum.columns import Columns

ROWS, CONTEXT, SPARE = 3, 6, 2

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("place"), st.integers(0, ROWS - 1), st.integers(1, CONTEXT)),
        st.tuples(st.just("release"), st.integers(0, ROWS - 1)),
        st.tuples(st.just("append"), st.tuples(*[st.booleans()] * ROWS)),
    ),
    max_size=60,
)


@given(STEPS)
@settings(max_examples=200)
def test_every_token_stays_in_reach(steps: list[tuple]) -> None:
    """Through joins, leaves, idle rows and packing, each slot's tokens are those it was given, in order."""
    columns = Columns(ROWS, CONTEXT + SPARE)
    memory = torch.zeros(ROWS, CONTEXT + SPARE, dtype=torch.int64)
    """What a device would hold: the name of the token last written to each column."""
    wanted: list[list[int]] = [[] for _ in range(ROWS)]
    name = 0
    for kind, *rest in steps:
        if kind == "place":
            slot, length = rest
            wanted[slot] = list(range(name, name + length))
            memory[slot, :length] = torch.tensor(wanted[slot])
            columns.place(slot, length)
            name += length
        elif kind == "release":
            columns.release(rest[0])
            wanted[rest[0]] = []
        else:
            active = torch.tensor([on and 0 < len(row) < CONTEXT for on, row in zip(rest[0], wanted, strict=True)])
            if columns.full:
                memory = memory.gather(1, columns.pack())
            column = columns.append(active)
            memory[:, column] = name  # every row writes, active or not
            for slot in active.nonzero().flatten().tolist():
                wanted[slot].append(name)
            name += 1
        assert [row[held].tolist() for row, held in zip(memory, columns.held, strict=True)] == wanted
        assert columns.lengths.tolist() == [len(row) for row in wanted]


def test_rows_that_meet_late_share_the_column() -> None:
    """A short row beside a long one has a hole, which packing closes for the shorter only."""
    columns = Columns(2, 8)
    columns.place(0, 5)
    columns.place(1, 2)
    assert columns.append(torch.tensor([True, True])) == 5
    assert columns.held.int().tolist() == [[1, 1, 1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 0, 1, 0, 0]]
    assert columns.pack().tolist()[1][:3] == [0, 1, 5]
    assert columns.held.int().tolist() == [[1, 1, 1, 1, 1, 1, 0, 0], [1, 1, 1, 0, 0, 0, 0, 0]]
    assert columns.next == 6


def test_the_last_to_leave_frees_all() -> None:
    """So that a server which rests between requests never packs."""
    columns = Columns(2, 8)
    columns.place(0, 5)
    columns.place(1, 3)
    columns.release(0)
    assert columns.next == 5
    columns.release(1)
    assert columns.next == 0


def test_a_step_of_nobody_takes_no_column() -> None:
    """As the steps of a warm-up are."""
    columns = Columns(2, 8)
    assert columns.append(torch.tensor([False, False])) == 0
    assert columns.next == 0
