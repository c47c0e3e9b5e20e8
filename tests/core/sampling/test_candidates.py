"""The best candidates against a plain sort."""

from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from runtime.sampling.candidates import best

VALUES = st.sampled_from([-math.inf, -3.0, -2.0, -1.0, 0.0])


@given(st.lists(st.lists(VALUES, min_size=9, max_size=9), min_size=1, max_size=4), st.integers(1, 9))
def test_exactly_so_many_in_the_order_of_value_then_id(rows: list[list[float]], count: int) -> None:
    """Ties, also those at the last place, go to the lower id."""
    ids, values = best(torch.tensor(rows), count)
    for row, row_ids, row_values in zip(rows, ids.tolist(), values.tolist(), strict=True):
        assert row_ids == sorted(range(9), key=lambda i, row=row: (-row[i], i))[:count]
        assert row_values == [row[i] for i in row_ids]


def test_what_is_no_number_is_worst() -> None:
    """A row of NaN gives ids of the vocabulary and no value that could be told."""
    ids, values = best(torch.tensor([[math.nan] * 3, [math.nan, -1.0, -2.0]]), 2)
    assert ids.tolist() == [[0, 1], [1, 2]]
    assert values.tolist() == [[-math.inf, -math.inf], [-1.0, -2.0]]
