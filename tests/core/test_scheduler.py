"""What runs next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runtime.backend import Limits
from runtime.budgets import ANY_SHAPE, AnyShape, Budgets, Demand, Shapes
from runtime.errors import InvalidRequest
from runtime.scheduler import DecodeStep, PrefillStep, Scheduler
from runtime.slots import SlotTable
from support.simulator import Job, Lease, Simulator

LARGE = 10**6
SMALL = Demand(1, 2)
GUIDE = Budgets(prefill_tokens=16384, total_tokens=32768)
"""TGI-Gaudi's guide: --max-input-tokens 4096 --max-total-tokens 8192 and these."""


class Fixture:
    """A scheduler that reads as a story: who comes, what runs, the milliseconds that pass."""

    def __init__(
        self, slots: int = 4, prefill_rows: int = 2, budgets: Budgets | None = None, shapes: Shapes = ANY_SHAPE
    ) -> None:
        budgets = budgets or Budgets(prefill_tokens=LARGE, total_tokens=LARGE, waiting_served_ratio=0)
        self.table = SlotTable(slots, budgets.total_tokens)
        self.scheduler: Scheduler[str] = Scheduler(self.table, prefill_rows, budgets, shapes)
        self.milliseconds = 0

    def add(self, keys: str, demand: Demand = SMALL) -> None:
        for key in keys:
            self.scheduler.add(key, demand, self.milliseconds / 1000)

    def remove(self, keys: str) -> None:
        for key in keys:
            self.scheduler.remove(key)

    def step(self) -> str:
        """Say `prefill ab`, `continue ab`, `decode ab` or `idle`."""
        match self.scheduler.next_step(self.milliseconds / 1000):
            case PrefillStep((), continued=keys):
                return "continue " + "".join(keys)
            case PrefillStep(placed):
                return "prefill " + "".join(key for key, _ in placed)
            case DecodeStep(keys):
                return "decode " + "".join(keys)
            case None:
                return "idle"

    def decodes_until_prefill(self) -> int:
        """Step until the next prefill and count the decode steps before it."""
        for count in range(1000):
            if self.step().startswith("prefill"):
                return count
        pytest.fail("no prefill within 1000 steps")

    def part(self) -> str:
        """Step, and say that the prompts of the step need another part."""
        told = self.step()
        for key in told.split()[1]:
            self.scheduler.hold(key)
        return told


@dataclass(frozen=True)
class Table:
    """A shape plan made up of (rows, longest) pairs."""

    shapes: tuple[tuple[int, int], ...]

    def fits(self, rows: int, longest: int) -> bool:
        return any(rows == each and longest <= length for each, length in self.shapes)


def test_idle_without_requests() -> None:
    """Nothing to do is told as such."""
    plan = Fixture()
    assert not plan.scheduler.has_step(0)
    assert plan.step() == "idle"


def test_prefill_takes_the_oldest_up_to_its_rows() -> None:
    """Among equals, first come, first served, each into the lowest free slot."""
    plan = Fixture()
    plan.add("abc")
    assert plan.scheduler.next_step(0) == PrefillStep((("a", 0), ("b", 1)))


def test_running_rows_step_between_prefills() -> None:
    """A crowd of newcomers costs the running streams one step in two at most."""
    plan = Fixture()
    plan.add("abcd")
    assert [plan.step() for _ in range(4)] == ["prefill ab", "decode ab", "prefill cd", "decode abcd"]


def test_prefill_tells_why_running_rows_wait_for_it() -> None:
    """Nobody does at first; then as many newcomers come as run; then one that had to wait for two decode steps."""
    budgets = Budgets(LARGE, LARGE, waiting_served_ratio=1.0, max_waiting_tokens=2)
    plan = Fixture(slots=5, budgets=budgets)
    told = []
    for newcomers, decodes in (("ab", 0), ("cd", 1), ("e", 2)):
        plan.add(newcomers)
        assert [plan.step()[:6] for _ in range(decodes)] == ["decode"] * decodes
        step = plan.scheduler.next_step(0)
        assert isinstance(step, PrefillStep)
        told.append(step.concat)
    assert told == [None, "backpressure", "wait_exceeded"]


def test_prefill_follows_prefill_when_nothing_runs() -> None:
    """Requests that end with their first token do not make the next ones wait."""
    plan = Fixture()
    plan.add("abc")
    plan.step()
    plan.remove("ab")
    assert plan.step() == "prefill c"


def test_a_freed_slot_goes_to_the_next_in_line() -> None:
    """A request waits for a slot and gets the one given back."""
    plan = Fixture(slots=1)
    plan.add("ab")
    assert [plan.step(), plan.step()] == ["prefill a", "decode a"]
    assert plan.scheduler.remove("a") == 0
    assert plan.scheduler.next_step(0) == PrefillStep((("b", 0),))


def test_removing_what_waits_or_is_unknown_frees_nothing() -> None:
    """A request cancelled in the queue never runs; one that is gone is no error."""
    plan = Fixture()
    plan.add("a")
    assert plan.scheduler.remove("a") is None
    assert plan.scheduler.remove("never seen") is None
    assert plan.step() == "idle"


def test_cancelling_a_running_request_frees_row_and_tokens() -> None:
    """Right after its prefill, and while it decodes, at once and in full."""
    plan = Fixture(slots=2, budgets=Budgets(prefill_tokens=100, total_tokens=100))
    for cancelled_after in (1, 2):
        plan.add("a", Demand(50, 100))
        plan.add("b", Demand(60, 100))
        for _ in range(cancelled_after):
            plan.step()
        plan.remove("a")
        assert plan.table.free_tokens == 100
        assert plan.step() == "prefill b"
        plan.remove("b")


def test_guide_s_capacity_with_full_requests() -> None:
    """4 prompts of 4096 in one prefill, and 4 rows of 8192 decode together, however many slots there are."""
    plan = Fixture(slots=16, prefill_rows=16, budgets=GUIDE)
    plan.add("abcdefgh", Demand(4096, 8192))
    assert plan.step() == "prefill abcd"
    assert {plan.step() for _ in range(50)} == {"decode abcd"}
    plan.remove("b")
    assert plan.step() == "prefill e"
    assert plan.step() == "decode acde"


def test_guide_s_capacity_with_short_requests() -> None:
    """Requests of an eighth share the same budgets: 16, as many as there are slots."""
    plan = Fixture(slots=16, prefill_rows=16, budgets=GUIDE)
    plan.add("abcdefghijklmnopqrst", Demand(512, 1024))
    assert plan.step() == "prefill abcdefghijklmnop"
    assert plan.step() == "decode abcdefghijklmnop"


def test_padding_counts() -> None:
    """Three prompts of 10 and one of 70 cost 280 padded and 100 in sum."""
    for padded, first in ((True, "abc"), (False, "abcd")):
        plan = Fixture(slots=8, prefill_rows=4, budgets=Budgets(prefill_tokens=100, total_tokens=LARGE, padded=padded))
        plan.add("abc", Demand(10, 20))
        plan.add("d", Demand(70, 80))
        assert plan.step() == f"prefill {first}"


def test_parts_take_turns_with_decode_steps() -> None:
    """A prompt of three parts between the tokens of the rows that run; then it joins them."""
    plan = Fixture()
    plan.add("a")
    plan.step()
    plan.step()
    plan.add("b")
    assert [plan.part(), plan.step(), plan.part(), plan.step()] == ["prefill b", "decode a", "continue b", "decode a"]
    assert [plan.step(), plan.step()] == ["continue b", "decode ab"]


def test_parts_follow_each_other_when_nobody_else_runs() -> None:
    """Prompts that were begun together go on together; one that is whole decodes meanwhile."""
    plan = Fixture()
    plan.add("ab")
    assert [plan.part(), plan.part()] == ["prefill ab", "continue ab"]
    assert plan.step() == "continue ab"
    plan.scheduler.hold("a")
    assert [plan.step(), plan.step(), plan.step()] == ["decode b", "continue a", "decode ab"]


def test_nobody_is_admitted_between_parts() -> None:
    """However many wait and however much room there is."""
    plan = Fixture(slots=8)
    plan.add("a")
    plan.part()
    plan.add("bcd")
    assert [plan.step(), plan.step()] == ["continue a", "decode a"]
    assert plan.step() == "prefill bc"


def test_cancelled_between_parts() -> None:
    """Its row is free, and it goes on no more; to hold what is gone is no error."""
    plan = Fixture(slots=1)
    plan.add("a")
    plan.part()
    assert plan.scheduler.remove("a") == 0
    plan.scheduler.hold("a")
    assert plan.step() == "idle"
    plan.add("b")
    assert plan.step() == "prefill b"


def test_row_is_placed_where_the_caller_says() -> None:
    """The caller sees who starts and which slots are free at that moment."""
    asked: list[tuple[str, list[int]]] = []

    def highest(key: str, free: Sequence[int]) -> int:
        asked.append((key, list(free)))
        return free[-1]

    table = SlotTable(3, LARGE)
    scheduler: Scheduler[str] = Scheduler(table, 2, Budgets(LARGE, LARGE), place=highest)
    for key in "ab":
        scheduler.add(key, SMALL, 0)
    assert scheduler.next_step(0) == PrefillStep((("a", 2), ("b", 1)))
    assert asked == [("a", [0, 1, 2]), ("b", [0, 1])]


def test_what_can_never_fit_is_refused() -> None:
    """A request larger than a budget or any shape would block the queue for ever."""
    plan = Fixture(budgets=Budgets(prefill_tokens=100, total_tokens=200), shapes=Table(((1, 64),)))
    plan.add("a", Demand(64, 200))
    with pytest.raises(InvalidRequest, match="takes 101 tokens and one prefill takes 100"):
        plan.add("b", Demand(101, 120))
    with pytest.raises(InvalidRequest, match="take 201 tokens and all requests together 200"):
        plan.add("b", Demand(64, 201))
    with pytest.raises(InvalidRequest, match="takes 65 tokens and no prefill is so long"):
        plan.add("b", Demand(65, 100))
    plan.remove("a")
    assert plan.step() == "idle"


def test_step_operations_share_the_budget() -> None:
    """Tokens held by a lease are not there for requests, until it ends."""
    plan = Fixture(budgets=Budgets(prefill_tokens=100, total_tokens=100))
    held = plan.table.lease(80)
    plan.add("a", Demand(10, 30))
    assert plan.step() == "idle"
    plan.table.release(held)
    assert plan.step() == "prefill a"


def test_newcomers_interrupt_in_numbers() -> None:
    """With 10 rows running and a ratio of 0.3, two wait and the third lets all three in."""
    plan = Fixture(slots=64, prefill_rows=16, budgets=Budgets(prefill_tokens=LARGE, total_tokens=LARGE))
    plan.add("abcdefghij")
    plan.step()
    plan.step()
    plan.add("kl")
    assert plan.step() == "decode abcdefghij"
    plan.add("m")
    assert plan.step() == "prefill klm"


def test_a_prefill_that_room_may_enlarge_is_held() -> None:
    """One of two newcomers fits: they wait until a row ends, and then go together."""
    budgets = Budgets(prefill_tokens=LARGE, total_tokens=100, waiting_served_ratio=0.5)
    plan = Fixture(slots=64, prefill_rows=16, budgets=budgets)
    plan.add("abcd", Demand(10, 20))
    plan.step()
    plan.step()
    plan.add("ef", Demand(10, 20))
    assert plan.step() == "decode abcd"
    plan.remove("a")
    assert plan.step() == "prefill ef"


def test_small_batches_are_interrupted_at_once() -> None:
    """0.3 of three rows is no row, as in TGI."""
    plan = Fixture(slots=8, prefill_rows=4, budgets=Budgets(prefill_tokens=LARGE, total_tokens=LARGE))
    plan.add("abc")
    assert [plan.step(), plan.step()] == ["prefill abc", "decode abc"]
    plan.add("d")
    assert plan.step() == "prefill d"


@pytest.mark.parametrize("steps", [0, 1, 5, 20])
def test_a_single_newcomer_is_held_for_so_many_steps_only(steps: int) -> None:
    """`max_waiting_tokens` bounds the wait; the rows that run get one step whatever it is."""
    budgets = Budgets(LARGE, LARGE, waiting_served_ratio=1.0, max_waiting_tokens=steps)
    plan = Fixture(slots=64, prefill_rows=16, budgets=budgets)
    plan.add("abcdefgh")
    plan.step()
    plan.add("i")
    assert plan.decodes_until_prefill() == max(1, steps)


def test_steps_count_from_the_last_prefill() -> None:
    """After a long time without a prefill the next newcomer interrupts at once."""
    budgets = Budgets(LARGE, LARGE, waiting_served_ratio=1.0, max_waiting_tokens=5)
    plan = Fixture(slots=64, prefill_rows=16, budgets=budgets)
    plan.add("abcdefgh")
    for _ in range(6):
        plan.step()
    plan.add("i")
    assert plan.decodes_until_prefill() == 0


def test_a_full_prefill_is_always_worth_it() -> None:
    """No more than one prefill can take is waited for, be its limit in rows or in tokens."""
    for prefill_rows, tokens in ((2, LARGE), (16, 50)):
        budgets = Budgets(prefill_tokens=tokens, total_tokens=LARGE, waiting_served_ratio=1.0)
        plan = Fixture(slots=64, prefill_rows=prefill_rows, budgets=budgets)
        plan.add("abcdefgh")
        while plan.step() != "decode abcdefgh":
            pass
        plan.add("ijk", Demand(25, 30))
        assert plan.step() == "prefill ij"


def test_shorter_first_until_overdue() -> None:
    """Below the threshold the shortest prompt goes first; from then on the oldest."""
    for age, order in ((119, "cab"), (120, "abc")):
        plan = Fixture(slots=8, prefill_rows=4)
        plan.add("a", Demand(30, 40))
        plan.add("b", Demand(30, 50))
        plan.milliseconds = 100 if age < 120 else 0
        plan.add("c", Demand(10, 90))
        plan.milliseconds = age
        assert plan.step() == f"prefill {order}"


def test_among_prompts_of_a_length_the_shorter_reply_goes_first() -> None:
    """The padded total decides between equal prompts, and arrival between equals."""
    plan = Fixture(slots=8, prefill_rows=4)
    plan.add("a", Demand(10, 40))
    plan.add("bc", Demand(10, 30))
    assert plan.step() == "prefill bca"


def test_overdue_go_before_shorter_newcomers() -> None:
    """The overdue in order of arrival, whatever their length, then the shortest of the rest."""
    plan = Fixture(slots=8, prefill_rows=8)
    plan.add("a", Demand(50, 60))
    plan.add("b", Demand(40, 60))
    plan.milliseconds = 100
    plan.add("c", Demand(20, 30))
    plan.add("d", Demand(10, 20))
    plan.milliseconds = 120
    assert plan.step() == "prefill abdc"


def test_threshold_of_zero_is_first_come_first_served() -> None:
    """Length does not matter then."""
    plan = Fixture(prefill_rows=4, budgets=Budgets(LARGE, LARGE, queue_threshold_ms=0))
    for key, length in zip("abcd", (4, 3, 2, 1), strict=True):
        plan.add(key, Demand(length, 5))
    assert plan.step() == "prefill abcd"


def test_the_first_in_line_is_not_overtaken() -> None:
    """A long request that does not fit yet keeps its place: small ones behind it wait, and room collects."""
    plan = Fixture(budgets=Budgets(prefill_tokens=100, total_tokens=100))
    plan.add("ab", Demand(10, 40))
    assert plan.step() == "prefill ab"
    plan.add("c", Demand(80, 100))
    plan.milliseconds = 200
    plan.add("d", Demand(1, 2))
    plan.remove("a")
    assert plan.step() == "decode b"
    plan.remove("b")
    assert plan.step() == "prefill c"


def test_queue_tells_when_its_order_changes() -> None:
    """Nothing runs, a lease leaves room for one request only, and that one comes first once it is overdue."""
    plan = Fixture(budgets=Budgets(prefill_tokens=100, total_tokens=100))
    plan.table.lease(50)
    plan.add("a", Demand(20, 40))
    plan.milliseconds = 20
    plan.add("b", Demand(10, 60))
    assert plan.step() == "idle"
    assert plan.scheduler.seconds_to_reorder(0.02) == pytest.approx(0.1)
    plan.milliseconds = 120
    assert plan.scheduler.seconds_to_reorder(0.12) is None
    assert plan.step() == "prefill a"


def test_only_planned_shapes_are_formed() -> None:
    """With shapes for 1, 2 and 4 rows, three requests make two and one."""
    plan = Fixture(slots=8, prefill_rows=8, shapes=Table(((1, 64), (2, 64), (4, 32))))
    plan.add("abc", Demand(32, 40))
    assert [plan.step(), plan.step(), plan.step()] == ["prefill ab", "decode ab", "prefill c"]
    plan.remove("abc")
    plan.add("defg", Demand(32, 40))
    assert plan.step() == "prefill defg"
    plan.remove("defg")
    plan.add("hijk", Demand(33, 40))
    assert plan.step() == "prefill hi"


def test_budgets_of_limits_admit_every_slot() -> None:
    """Without budgets of the operator only slots and prefill rows bind."""
    budgets = Budgets.of(limits := Limits(rows=6, context=64, prefill_rows=3, prefill_tokens=48))
    plan = Fixture(limits.rows, limits.prefill_rows, budgets)
    plan.add("abcdefg", Demand(48, 64))
    assert [plan.step() for _ in range(4)] == ["prefill abc", "decode abc", "prefill def", "decode abcdef"]


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
