"""Who goes first: QUEUE_THRESHOLD_MS, on a server with one row and a clock that the test turns."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from runtime.budgets import Budgets
from support.simulator import PREFILL_SECONDS_PER_TOKEN, Job, Simulator

BUSY_MS = 200
"""Until then another request holds the only row."""


@dataclass(frozen=True)
class Vector:
    """Requests by name, with their arrival in milliseconds and the tokens of their prompts; a token takes 10 ms."""

    threshold: int
    waiting: dict[str, tuple[int, int]]
    order: str


VECTORS = {
    "a millisecond below the threshold": Vector(120, {"long": (81, 10), "short": (150, 5)}, "short long"),
    "as old as the threshold": Vector(120, {"long": (80, 10), "short": (150, 5)}, "long short"),
    "equal lengths": Vector(120, {"one": (150, 5), "two": (160, 5), "three": (170, 5)}, "one two three"),
    "equal lengths, the first overdue": Vector(120, {"one": (10, 5), "two": (160, 5)}, "one two"),
    "both overdue": Vector(120, {"long": (10, 10), "short": (20, 5)}, "long short"),
    "no threshold": Vector(0, {"long": (190, 10), "short": (191, 5)}, "long short"),
    "a flood of short ones": Vector(
        120, {"long": (100, 10), **{f"s{n}": (150 + 40 * n, 5) for n in range(6)}}, "s0 long s1 s2 s3 s4 s5"
    ),
    "a flood and an endless threshold": Vector(
        10**6, {"long": (100, 10), **{f"s{n}": (150 + 40 * n, 5) for n in range(6)}}, "s0 s1 s2 s3 s4 s5 long"
    ),
}


@pytest.mark.parametrize("vector", VECTORS.values(), ids=VECTORS.keys())
def test_order_of_service(vector: Vector) -> None:
    """Overdue requests in order of arrival, then the shortest.

    Differs from TGI-Gaudi 2.0.5 on purpose: there the overdue are sorted by length once more, so that a long request
    starves among them, and every prompt counts as the longest allowed unless it is truncated. In 2.3 the variable does
    nothing. A request is overdue at the threshold here, and a millisecond later there.
    """
    busy = Job(0, 0.0, round(BUSY_MS / 1000 / PREFILL_SECONDS_PER_TOKEN), 1, 1)
    jobs = [
        Job(key, arrives / 1000, prompt, 1, 1) for key, (arrives, prompt) in enumerate(vector.waiting.values(), start=1)
    ]
    budgets = Budgets(prefill_tokens=1000, total_tokens=1000, queue_threshold_ms=vector.threshold)
    simulator = Simulator([busy, *jobs], rows=1, prefill_rows=1, budgets=budgets)
    simulator.run()
    names = ["busy", *vector.waiting]
    assert [names[key] for prefill in simulator.prefills for key in prefill] == ["busy", *vector.order.split()]
