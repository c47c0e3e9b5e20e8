"""The queue played forward: by hand, for what must always hold, and beside a simulated server."""

from __future__ import annotations

import math
import random
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runtime.admission.forecast import Backlog, Forecast, Room, Work
from runtime.admission.pace import Pace
from runtime.budgets import Budgets
from support.foreseeing import Foreseeing
from support.simulator import Job

ROOM = Room(slots=2, tokens=1000)
WORK = st.builds(
    Work, prefill_tokens=st.integers(0, 5000), steps=st.floats(0, 5000), total_tokens=st.integers(0, 10_000)
)
BACKLOG = st.builds(
    Backlog,
    room=st.builds(Room, slots=st.integers(1, 8), tokens=st.integers(1, 20_000)),
    running=st.lists(WORK, max_size=8),
    waiting=st.lists(WORK, max_size=8),
)
FACTOR = 1.5
"""How far a forecast may be off, either way, once a second is added for what is not foreseen of a single step."""


def steady(token_seconds: float = 0.5, step_seconds: float = 1.0) -> Pace:
    """A pace that is known."""
    pace = Pace()
    pace.prefilled(1, token_seconds)
    pace.decoded(step_seconds)
    return pace


def test_an_idle_server() -> None:
    """Starts at once: 4 tokens of a prompt take 2 s, and then 10 steps take 10."""
    assert Backlog(ROOM, [], []).forecast(Work(4, 10, 14), steady()) == Forecast(0, 12)


def test_behind_two_that_run() -> None:
    """The shorter has 3 steps left, so its slot is free after 3 s."""
    running = [Work(0, 7, 100), Work(0, 3, 100)]
    assert Backlog(ROOM, running, []).forecast(Work(4, 10, 14), steady()) == Forecast(3, 3 + 2 + 10)


def test_a_prefill_takes_its_time_from_everybody() -> None:
    """One waits before: it starts after 3 s and its prompt 5; the other slot is free after 7 steps and those 5."""
    running = [Work(0, 7, 100), Work(0, 3, 100)]
    backlog = Backlog(ROOM, running, [Work(10, 20, 100)])
    assert backlog.forecast(Work(4, 10, 14), steady()) == Forecast(12, 12 + 2 + 10)


def test_room_for_tokens() -> None:
    """There is a free slot, but not for so many tokens before the one that runs has ended."""
    backlog = Backlog(ROOM, [Work(0, 7, 600)], [])
    assert backlog.forecast(Work(0, 1, 400), steady()) == Forecast(0, 1)
    assert backlog.forecast(Work(0, 1, 401), steady()) == Forecast(7, 8)


@pytest.mark.parametrize("pace", [Pace(), steady()], ids=["pace not known", "nothing served"])
def test_no_forecast(pace: Pace) -> None:
    """Rather than a wrong one."""
    room = ROOM if pace.decode_step_seconds is None else Room(0, 0)
    assert Backlog(room, [], []).forecast(Work(4, 10, 14), pace) is None


@pytest.mark.parametrize(
    ("running", "waiting", "expected"),
    [
        ([], [], 0),
        ([100], [100], 1),  # which has a slot all but had; the newcomer has none
        ([100, 100], [], 1),
        ([100, 100], [100, 100], 3),
        ([100], [], 0),
        ([600], [500], 2),  # no room for its tokens, and nobody overtakes it
    ],
)
def test_without_slot(running: list[int], waiting: list[int], expected: int) -> None:
    """Counts the newcomer, and not who will start with the next step."""
    backlog = Backlog(ROOM, [Work(0, 5, total) for total in running], [Work(5, 5, total) for total in waiting])
    assert backlog.without_slot() == expected


def test_nobody_waits_for_a_slot_where_none_is_served() -> None:
    """The server says that it is not ready instead."""
    assert Backlog(Room(0, 0), [], [Work(5, 5, 10)]).without_slot() == 0


@given(BACKLOG, WORK, st.floats(0, 10), st.floats(0, 10))
def test_a_forecast_is_a_time(backlog: Backlog, newcomer: Work, token_seconds: float, step_seconds: float) -> None:
    """Finite, not in the past, and the end not before the start."""
    forecast = backlog.forecast(newcomer, steady(token_seconds, step_seconds))
    assert forecast is not None
    assert 0 <= forecast.start <= forecast.finish < math.inf


@given(BACKLOG, WORK, WORK, st.data())
def test_more_work_ahead_is_never_sooner(backlog: Backlog, newcomer: Work, more: Work, data: st.DataObject) -> None:
    """Whether another waits, or one that runs has more to do."""
    before = backlog.forecast(newcomer, steady())
    place = data.draw(st.integers(0, len(backlog.waiting)))
    waiting = [*backlog.waiting[:place], more, *backlog.waiting[place:]]
    longer = [Work(work.prefill_tokens, work.steps + 1, work.total_tokens) for work in backlog.running]
    for heavier in (Backlog(backlog.room, backlog.running, waiting), Backlog(backlog.room, longer, backlog.waiting)):
        after = heavier.forecast(newcomer, steady())
        assert before is not None
        assert after is not None
        assert before.start <= after.start
        assert before.finish <= after.finish


@settings(max_examples=8, deadline=None, derandomize=True)  # a statement about averages has its exceptions
@given(
    seed=st.integers(0, 10**6),
    rows=st.sampled_from((1, 3, 8)),
    tokens=st.sampled_from((1500, 10**6)),
    by_themselves=st.booleans(),
)
def test_forecasts_come_true(seed: int, rows: int, tokens: int, by_themselves: bool) -> None:
    """On a simulated server with the real scheduler, that more and more come to than it can serve."""
    draw = random.Random(seed)
    jobs = []
    for key in range(100):
        longest = draw.randint(20, 200)
        reply = min(longest, 1 + int(draw.expovariate(1 / 60))) if by_themselves else longest
        jobs.append(Job(key, arrives=key * 0.5, prompt=draw.randint(20, 300), longest_reply=longest, reply=reply))
    budgets = Budgets(prefill_tokens=1200, total_tokens=tokens)
    server = Foreseeing(jobs, rows, min(rows, 4), budgets)
    server.run()
    settled = [key for key in server.foreseen if key >= 20]
    pairs = [(server.foreseen[key][1], server.real(key)) for key in settled]
    waits = [(foreseen.start + 1) / (real.start + 1) for foreseen, real in pairs]
    ends = [(foreseen.finish + 1) / (real.finish + 1) for foreseen, real in pairs]
    assert len(settled) > 60, "too few could be foreseen"
    assert max(real.start for _, real in pairs) > 10, "nobody waited"
    assert 1 / FACTOR < statistics.median(waits) < FACTOR
    assert 1 / FACTOR < statistics.median(ends) < FACTOR
    assert min(waits + ends) > 1 / FACTOR**2
    assert max(waits + ends) < FACTOR**2
