"""Choosing tokens, many rows at once."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from runtime.runtime import SamplingParameters
from runtime.sampling.sampler import NOT_A_NUMBER, Choices, choose, prepare

CPU = torch.device("cpu")
GREEDY = SamplingParameters()


def pick(logits: list[list[float]], rows: list[tuple[SamplingParameters, int]], steps: list[int]) -> Choices:
    return choose(torch.tensor(logits), prepare(rows, CPU), steps)


def test_greedy_takes_the_best_and_tells_its_probability() -> None:
    """Probabilities 1/4 and 3/4: the second is chosen, with log(3/4)."""
    chosen = pick([[0.0, math.log(3)]], [(GREEDY, 0)], [0])
    assert chosen.ids == [1]
    assert chosen.logprobs == pytest.approx([math.log(0.75)])


def test_draws_follow_the_distribution() -> None:
    """Over 8,000 steps of one seed, probabilities 1/2, 1/4, 1/8, 1/8 are met within 4 standard deviations."""
    count = 8000
    logits = torch.tensor([1 / 2, 1 / 4, 1 / 8, 1 / 8]).log().expand(count, 4)
    mix = prepare([(SamplingParameters(do_sample=True), 99)] * count, CPU)
    seen = torch.bincount(torch.tensor(choose(logits, mix, list(range(count))).ids), minlength=4) / count
    for frequency, p in zip(seen.tolist(), [1 / 2, 1 / 4, 1 / 8, 1 / 8], strict=True):
        assert abs(frequency - p) < 4 * math.sqrt(p * (1 - p) / count)


def test_temperature_sharpens_before_the_draw() -> None:
    """At temperature 1/2 probabilities are squared: 3:1 becomes 9:1, and the log-probability says so."""
    parameters = SamplingParameters(temperature=0.5)
    chosen = [pick([[math.log(3), 0.0]], [(parameters, seed)], [0]) for seed in range(400)]
    for choice in chosen:
        assert choice.logprobs == pytest.approx([math.log(0.9 if choice.ids == [0] else 0.1)], rel=1e-5)
    assert 320 < sum(choice.ids == [0] for choice in chosen) < 395


def test_dropped_candidates_are_never_drawn() -> None:
    """With top_k 2 and top_p, 500 seeds only see the kept ids."""
    rows = [(SamplingParameters(top_k=2), seed) for seed in range(250)]
    rows += [(SamplingParameters(top_p=0.6), seed) for seed in range(250)]
    logits = [[0.0, 2.0, 1.9, -1.0, 0.5]] * 500
    assert set(pick(logits, rows, [3] * 500).ids) == {1, 2}


def test_tiny_temperature_is_greedy() -> None:
    """A temperature that would overflow the scores still chooses, the best."""
    assert pick([[50.0, 51.0, -50.0]], [(SamplingParameters(temperature=1e-40), 3)], [0]).ids == [1]


def test_row_of_no_numbers_is_told() -> None:
    """NaN anywhere, or an infinite best score, spoils its row and no other; -inf is a banned token."""
    inf, nan = math.inf, math.nan
    logits = [[0.0, nan, 1.0], [0.0, inf, 1.0], [-inf, -inf, -inf], [0.0, -inf, 1.0]]
    for parameters in (GREEDY, SamplingParameters(do_sample=True, top_k=1)):
        ids = pick(logits, [(parameters, 0)] * 4, [0] * 4).ids
        assert ids == [NOT_A_NUMBER, NOT_A_NUMBER, NOT_A_NUMBER, 2]


PARAMETERS = st.builds(
    SamplingParameters,
    do_sample=st.booleans(),
    temperature=st.sampled_from([0.3, 1.0, 2.0]),
    top_k=st.sampled_from([0, 1, 3]),
    top_p=st.sampled_from([0.4, 0.9, 1.0]),
)


@given(st.lists(st.tuples(PARAMETERS, st.integers(0, 2**64 - 1), st.integers(0, 99)), min_size=1, max_size=6))
def test_choice_does_not_depend_on_neighbours(rows: list[tuple[SamplingParameters, int, int]]) -> None:
    """Whatever shares the batch, each row gets the token and log-probability it gets alone."""
    logits = torch.randn(len(rows), 50, generator=torch.Generator().manual_seed(len(rows)))
    together = choose(logits, prepare([row[:2] for row in rows], CPU), [row[2] for row in rows])
    for index, (parameters, seed, step) in enumerate(rows):
        alone = choose(logits[index : index + 1], prepare([(parameters, seed)], CPU), [step])
        assert (alone.ids, alone.logprobs) == ([together.ids[index]], [together.logprobs[index]])
