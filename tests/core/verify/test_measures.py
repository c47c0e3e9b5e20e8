"""How far tensors are from those of the reference."""

from __future__ import annotations

import math

import pytest
import torch
from runtime.verify.measures import QUIET, Flip, Measure, Place

PLACES = [Place(0, None, position) for position in range(3)]


def test_errors_by_hand() -> None:
    """Each vector's difference is divided by its own size, however much longer another is."""
    wanted = torch.tensor([[3.0, 4.0], [300.0, 400.0], [3.0, 4.0]])
    got = torch.tensor([[3.0, 4.0], [330.0, 440.0], [3.0, 3.0]])
    measure = Measure()
    measure.add(got, wanted, PLACES)
    assert measure.errors == pytest.approx([0.0, 0.1, 0.2])
    assert measure.rms == pytest.approx(math.sqrt((0.1**2 + 0.2**2) / 3))
    assert measure.worst == pytest.approx(0.2)
    assert measure.max == pytest.approx(1 / math.sqrt(12.5))
    assert (measure.most, measure.height) == (pytest.approx(40.0), 400.0)


def test_batches_add_up() -> None:
    """What is measured of two batches is what is measured of both together."""
    wanted, got = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(0))
    together, apart = Measure(), Measure()
    together.add(got, wanted, PLACES)
    for at in range(3):
        apart.add(got[at : at + 1], wanted[at : at + 1], PLACES[at : at + 1])
    assert apart.errors == pytest.approx(together.errors)
    assert apart.rms == pytest.approx(together.rms)
    assert apart.places == together.places


def test_next_to_nothing_counts_as_a_little() -> None:
    """A vector of zeros has no size to compare with."""
    measure = Measure()
    measure.add(torch.tensor([[0.1], [10.0], [10.0]]), torch.tensor([[0.0], [10.0], [10.0]]), PLACES)
    assert measure.errors == pytest.approx([0.1 / (QUIET * 10), 0, 0])


def test_nothing_but_zeros_is_right() -> None:
    """Zero by zero is no error."""
    measure = Measure()
    measure.add(torch.zeros(3, 2), torch.zeros(3, 2), PLACES)
    assert (measure.rms, measure.worst) == (0, 0)


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_infinitely_wrong(odd: float) -> None:
    """Where it stands, and nowhere else."""
    measure = Measure()
    measure.add_scores(torch.tensor([[1.0, 2.0], [odd, 1.0], [1.0, 2.0]]), torch.tensor([[1.0, 2.0]] * 3), PLACES)
    assert measure.errors == [0, math.inf, 0]
    assert measure.kl[0] == 0
    assert measure.rms == math.inf


def test_another_shape_is_told() -> None:
    """It cannot be compared."""
    measure = Measure()
    measure.add(torch.zeros(3, 2), torch.zeros(3, 4), PLACES)
    assert measure.mismatch == "has shape [3, 2], not [3, 4]"
    assert measure.worst == math.inf


def test_scores_by_hand() -> None:
    """KL of (3/4, 1/4) from (1/2, 1/2), and the token that changes with its margin."""
    wanted = torch.tensor([[math.log(3.0), 0.0]])
    measure = Measure()
    measure.add_scores(torch.tensor([[1.0, 1.5]]), wanted, PLACES[:1])
    unsure = torch.tensor([1.0, 1.5]).double().softmax(-1)
    divergence = 0.75 * math.log(0.75 / unsure[0]) + 0.25 * math.log(0.25 / unsure[1])
    assert measure.kl == pytest.approx([divergence])
    assert measure.flips == [Flip(PLACES[0], 0, 1, pytest.approx(math.log(3.0)))]


def test_places_are_told() -> None:
    """As a reader looks for them."""
    assert str(Place(2, None, 17)) == "row in slot 2, position 17"
    assert str(Place(2, 3, 17)) == "row in slot 2, tile 3, patch 17"
    assert str(Place(2, 3, None)) == "row in slot 2, tile 3"
