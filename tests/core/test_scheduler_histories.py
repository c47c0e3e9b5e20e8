"""What holds over any history of requests, in the simulator."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from runtime.budgets import ANY_SHAPE, AnyShape, Budgets, Shapes
from support.simulator import Job, Lease, Simulator


class Plan(AnyShape):
    """Few long rows or many short ones."""

    def fits(self, rows: int, longest: int) -> bool:
        return rows * longest <= 12 or rows == 1


@st.composite
def budgets(draw: st.DrawFn) -> Budgets:
    return Budgets(
        prefill_tokens=draw(st.integers(12, 40)),
        total_tokens=draw(st.integers(24, 80)),
        padded=draw(st.booleans()),
        waiting_served_ratio=draw(st.sampled_from([0.0, 0.3, 1.2])),
        max_waiting_tokens=draw(st.integers(0, 6)),
        queue_threshold_ms=draw(st.sampled_from([0, 50, 120, 2000])),
    )


@st.composite
def jobs(draw: st.DrawFn) -> list[Job]:
    made = []
    arrives = 0.0
    for key in range(draw(st.integers(0, 24))):
        arrives += draw(st.sampled_from([0.0, 0.0, 0.01, 0.1, 1.0]))
        longest_reply = draw(st.integers(1, 12))
        hangs_up = draw(st.sampled_from([None, None, None, 0.0, 0.05, 0.3]))
        made.append(
            Job(
                key=key,
                arrives=arrives,
                prompt=draw(st.integers(1, 12)),
                longest_reply=longest_reply,
                reply=draw(st.integers(1, longest_reply)),
                cancelled=None if hangs_up is None else arrives + hangs_up,
                parts=draw(st.sampled_from([1, 1, 1, 2, 5])),
            )
        )
    return made


@st.composite
def leases(draw: st.DrawFn) -> list[Lease]:
    starts = draw(st.lists(st.floats(0, 3), max_size=5))
    return [Lease(start, start + draw(st.floats(0, 1)), draw(st.integers(1, 40))) for start in starts]


SHAPES = st.sampled_from([ANY_SHAPE, Plan()])


@settings(deadline=None)
@given(jobs(), st.integers(1, 6), st.integers(1, 4), budgets(), SHAPES)
def test_everyone_is_served_within_the_bound(
    jobs: list[Job], rows: int, prefill_rows: int, budgets: Budgets, shapes: Shapes
) -> None:
    """Over any history: order, room, budgets, shapes and the bound on waiting, all checked by the simulator."""
    simulator = Simulator(jobs, rows, prefill_rows, budgets, shapes)
    simulator.run()
    assert sorted(simulator.finished + simulator.cancelled) == [job.key for job in jobs]
    assert set(simulator.finished) >= {job.key for job in jobs if job.cancelled is None}


@settings(deadline=None)
@given(jobs(), leases(), st.integers(1, 6), st.integers(1, 4), budgets(), SHAPES)
def test_leases_come_and_go(
    jobs: list[Job], leases: list[Lease], rows: int, prefill_rows: int, budgets: Budgets, shapes: Shapes
) -> None:
    """Rows of step operations are never given away, and everyone is served once they end."""
    simulator = Simulator(jobs, rows, prefill_rows, budgets, shapes, leases)
    simulator.run()
    assert sorted(simulator.finished + simulator.cancelled) == [job.key for job in jobs]


def test_long_requests_survive_a_flood_of_short_ones() -> None:
    """Short requests never stop coming, faster than they are served; the long one starts before what came later."""
    flood = [Job(key, key * 0.01, prompt=1, longest_reply=8, reply=8) for key in range(400)]
    long = Job(400, 0.5, prompt=12, longest_reply=12, reply=12)
    simulator = Simulator([*flood, long], 4, 2, Budgets(prefill_tokens=24, total_tokens=36))
    simulator.run()
    later = [job for job in flood if job.arrives > long.arrives + 0.12]
    assert simulator.started[long.key] < min(simulator.started[job.key] for job in later)


def test_shortest_first_shortens_the_wait() -> None:
    """A burst behind a long prompt is served faster on average than in order of arrival."""

    def mean_wait(threshold_ms: int) -> float:
        burst = [Job(key, 0.0, prompt=1 + 11 * (key < 4), longest_reply=4, reply=4) for key in range(24)]
        simulator = Simulator(burst, 4, 2, Budgets(24, 80, queue_threshold_ms=threshold_ms))
        simulator.run()
        return sum(simulator.started.values()) / len(burst)

    assert mean_wait(60_000) < 0.7 * mean_wait(0)
