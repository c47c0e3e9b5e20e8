"""The best candidates against a plain sort."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from runtime.sampling.candidates import WIDTHS, Candidates, width_above

VOCABULARY = 300


def values_of(seed: int, steps: int, banned: float) -> torch.Tensor:
    """Few different values, as in bfloat16, float32 [3, vocabulary]; a share of them is -inf."""
    generator = torch.Generator().manual_seed(seed)
    values = (torch.randn(3, VOCABULARY, generator=generator) * steps).round() / 4
    return values.masked_fill(torch.rand(3, VOCABULARY, generator=generator) < banned, -torch.inf)


@given(
    st.integers(0, 1000), st.sampled_from([1, 4, 1000]), st.sampled_from([0.0, 0.9, 1.0]), st.sampled_from([5, 64, 300])
)
def test_what_they_hold_is_what_a_sort_gives(seed: int, steps: int, banned: float, width: int) -> None:
    """Values come in order; where they hold all that is as good as the n-th, the first n are those of a sort by id."""
    values = values_of(seed, steps, banned)
    found = Candidates.of(values, width)
    assert found.values.equal(values.sort(dim=-1, descending=True).values[:, :width])
    for count in (1, 3, 5, width):
        holds = found.hold(found.values[:, count - 1]).tolist()
        for row, ids, all_held in zip(values.tolist(), found.ids.tolist(), holds, strict=True):
            by_value = sorted(range(VOCABULARY), key=lambda id, row=row: (-row[id], id))
            finite = sum(value > -torch.inf for value in row)
            assert not all_held or ids[: min(count, finite)] == by_value[: min(count, finite)]
            assert all_held or (finite >= width and width < VOCABULARY)


def test_ties_across_the_edge_are_seen() -> None:
    """Of four equal values two are looked at: what is better is held, what ties is not; of all four both are."""
    values = torch.tensor([[1.0, 2.0, 1.0, 1.0, 1.0]])
    best = torch.tensor([2.0])
    assert Candidates.of(values, 3).hold(best).tolist() == [True]
    assert Candidates.of(values, 3).hold(best - 1).tolist() == [False]
    assert Candidates.of(values, 5).hold(best - 1).tolist() == [True]


def test_widths_hold_one_more_than_is_wanted() -> None:
    """The vocabulary itself is the last width, and the only one of a small vocabulary."""
    first, second = WIDTHS
    assert [width_above(count, 1000) for count in (0, first - 1, first, second)] == [first, first, second, 1000]
    assert width_above(3, first) == first
    assert width_above(3, 5) == 5
