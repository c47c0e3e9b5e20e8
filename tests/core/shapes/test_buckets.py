"""Sizes, and the rules that make them."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime.errors import StartupError
from runtime.shapes.buckets import Buckets, Doubling, Exponential, Ladder, Linear, Listed, short_of, up_to

SMALL = st.integers(1, 40)
LADDERS: st.SearchStrategy[Ladder] = (
    st.builds(Linear, SMALL)
    | st.builds(Exponential, SMALL, st.sampled_from([Fraction(5, 4), Fraction(2)]))
    | st.builds(Doubling, SMALL, st.integers(1, 6))
    | st.builds(Listed, st.sets(st.integers(1, 300)).map(lambda sizes: tuple(sorted(sizes))))
)


@pytest.mark.parametrize(
    ("ladder", "limit", "sizes"),
    [
        (Linear(128), 512, (128, 256, 384, 512)),
        (Linear(128), 500, (128, 256, 384, 500)),
        (Linear(4), 3, (3,)),
        (Linear(1), 4, (1, 2, 3, 4)),
        (Linear(8), 0, ()),
        # A quarter more than 512 is 640 at once; than 640 it is 800, so 896.
        (Exponential(128, Fraction(5, 4)), 1000, (128, 256, 384, 512, 640, 896, 1000)),
        (Exponential(1, Fraction(2)), 12, (1, 2, 4, 8, 12)),
        (Doubling(128, 5), 8192, (256, 512, 1024, 2048, 4096, 8192)),
        (Doubling(128, 5), 300, (128, 256, 300)),
        (Listed((128, 1000, 9000)), 4096, (128, 1000, 4096)),
    ],
)
def test_sizes(ladder: Ladder, limit: int, sizes: tuple[int, ...]) -> None:
    """By hand; the limit is always the last."""
    assert up_to(ladder, limit).sizes == sizes


def test_sizes_short_of_a_limit() -> None:
    """129 is left for 128 to be rounded up to, and 128 is not, since nothing is left that reaches 129 alone."""
    assert short_of(Linear(128), 129).sizes == (129,)
    assert short_of(Linear(128), 130).sizes == (128, 130)
    assert short_of(Linear(128), 1).sizes == ()


@given(LADDERS, st.integers(1, 300))
def test_every_number_has_the_least_size_that_holds_it(ladder: Ladder, limit: int) -> None:
    """And the sizes ascend, so that no number has two."""
    buckets = up_to(ladder, limit)
    assert list(buckets.sizes) == sorted(set(buckets.sizes))
    for number in range(1, limit + 1):
        assert buckets.holding(number) == min(size for size in buckets.sizes if size >= number)
    assert buckets.holding(limit + 1) is None
    held = [number for before, size in buckets.steps() for number in range(before + 1, size + 1)]
    assert held == list(range(1, limit + 1))


@given(LADDERS, st.integers(2, 300))
def test_every_size_is_needed_short_of_a_limit(ladder: Ladder, limit: int) -> None:
    """Some number below the limit is rounded up to each."""
    buckets = short_of(ladder, limit)
    assert {buckets.holding(number) for number in range(1, limit)} == set(buckets.sizes)


@given(st.integers(1, 300), st.integers(1, 4000))
def test_padding_is_bounded(step: int, number: int) -> None:
    """Below one step; below a quarter and a step; below the number itself."""
    limit = 4000
    linear, quarter = up_to(Linear(step), limit).holding(number), up_to(Exponential(step, Fraction(5, 4)), limit)
    doubling = up_to(Doubling(step, 64), limit).holding(number)
    held = quarter.holding(number)
    assert linear is not None
    assert held is not None
    assert doubling is not None
    assert linear - number < step
    assert held - number < number / 4 + step
    assert doubling < max(2 * number, step + 1)


def test_too_many_sizes() -> None:
    """One line that names the settings, before they fill the memory."""
    with pytest.raises(StartupError, match=r"the buckets up to 1073741824 are more than 4096; raise --pad-sequence"):
        up_to(Linear(1), 2**30)


def test_no_size() -> None:
    """Of nothing."""
    assert Buckets(()).holding(1) is None
