"""The report: shares, bars, and what was not measured in the run marked as such."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from benchmarks.serving.bars import Bar, bars_of
from benchmarks.serving.bounds import Bound, Machine
from benchmarks.serving.figures import Figures
from benchmarks.serving.report import as_json, as_text
from benchmarks.serving.results import GIGA, Results
from benchmarks.serving.server import Memory

BOUND = Bound(requests=1, new_tokens=5, prompt=0.1, step=0.025)  # 40 tokens/s to decode, 25 tokens/s in all
HALF = Figures(first_token=200, first_token_p95=200, between_tokens=50, decode=20, aggregate=12.5)
RESULTS = Results(
    geometry="small",
    backend="cpu",
    threads=2,
    rounds=1,
    new_tokens=5,
    versions={"torch": "2"},
    load_average=0.0,
    machine=Machine(70 * GIGA, 800 * GIGA),
    read_by="C",
    bounds={"W1": BOUND, "W3x1": BOUND, "W3x8": BOUND},
    served={"W1": HALF, "W3x1": HALF, "W3x8": HALF},
    bare={"W3x8": HALF},
    generate={"W3x1": replace(HALF, decode=5.0)},
    second_question=0.3,
    ready_seconds=5.0,
    memory_when_ready=Memory(GIGA, 2 * GIGA),
    memory=Memory(2 * GIGA, 3 * GIGA),
)


def test_shares_are_of_the_bound() -> None:
    """Half the speed, or twice the wait, is a half."""
    told = json.loads(json.dumps(as_json(RESULTS)))
    assert told["shares"]["W1"] == {"first_token": 0.5, "decode": 0.5, "aggregate": 0.5}


def test_bars_compare_what_was_measured() -> None:
    """Only what the run has; a wait and a memory should be at most so much, the rest at least."""
    met = {bar.name: (pytest.approx(bar.figure), bar.met) for bar in bars_of(RESULTS)}
    assert met == {
        "W3x1 decode, share of its bound": (0.5, True),
        "W3x8 tokens/s, share of its bound": (0.5, False),
        "W1 time to first token, times its bound": (2.0, False),
        "W3x1 decode, times transformers generate": (4.0, True),
        "W3x8 tokens/s, share of the bare engine": (1.0, True),
        "second question, share of the first's wait": (0.3, False),
        "ready, seconds": (5.0, True),
        "memory after all (PSS), GB": (2.0, False),
    }


def test_full_has_bars_of_its_own() -> None:
    """One stream, and the memory that loading takes."""
    full = replace(RESULTS, geometry="full", bare={}, generate={}, second_question=None)
    assert bars_of(full) == [
        Bar("W3x1 decode, share of its bound", 0.5, 0.45),
        Bar("highest memory while loading, GB", 2.0, 17, at_most=True),
    ]


def test_tiny_has_none() -> None:
    """It tells nothing about speed."""
    assert bars_of(replace(RESULTS, geometry="tiny")) == []


def test_the_table_says_what_is_not_of_this_run() -> None:
    """The figures of other servers stand under a line that says when they were measured."""
    lines = as_text(RESULTS).splitlines()
    note = lines.index("Other servers, NOT of this run but")
    assert "22 November 2026" in lines[note + 1]
    assert any("vLLM" in line for line in lines[note:])
    assert not any("vLLM" in line for line in lines[:note])
