"""Figures of replies, by hand."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from benchmarks.serving.figures import Figures, Reply, percentile
from benchmarks.serving.workloads import WORKLOADS, Workload

SLOW = Reply(asked=10.0, times=(12.0, 13.0, 14.0), prompt_tokens=5)
FAST = Reply(asked=10.5, times=(11.5, 12.0, 12.5), prompt_tokens=5)


def test_figures_of_a_round() -> None:
    """Waits of 2 and 1 s; then a token each second, or two; 6 tokens from 10 s to 14 s."""
    figures = Figures.of([SLOW, FAST])
    assert figures.first_token == 1500
    assert figures.first_token_p95 == pytest.approx(1950)
    assert figures.between_tokens == 750
    assert figures.decode == 1.5
    assert figures.aggregate == 1.5


def test_medians_are_taken_figure_by_figure() -> None:
    rounds = [Figures(3, 1, 1, 1, 1), Figures(1, 2, 1, 1, 9), Figures(2, 9, 1, 1, 2)]
    assert Figures.median_of(rounds) == Figures(2, 2, 1, 1, 2)


def test_percentile_is_linear_between_values() -> None:
    assert percentile([4.0], 0.95) == 4
    assert percentile([0.0, 10.0], 0.95) == pytest.approx(9.5)
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2


def test_a_reply_survives_the_pipe() -> None:
    """Helper processes send theirs as JSON."""
    assert Reply.of(json.loads(json.dumps(asdict(SLOW)))) == SLOW


@pytest.mark.parametrize("workload", WORKLOADS.values(), ids=WORKLOADS)
def test_no_prompt_is_asked_twice(workload: Workload) -> None:
    """Not within a round nor in two rounds, so that no cache helps; the same seed asks the same."""
    asked = [*workload.inputs(0), *workload.inputs(1)]
    assert len(set(asked)) == 2 * workload.requests
    assert workload.inputs(0) == asked[: workload.requests]
