"""No sequence of step operations loses a slot, gives one to two rows, or changes what a request says."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from runtime.errors import BackendError, InvalidRequest, Overloaded
from runtime.row import Row
from runtime.runtime import StepResult
from support.arithmetic import FAILS, FAILS_LATER, NOT_A_NUMBER, expected
from support.leasing import IDLE, Bench, row
from support.serving import LIMITS, ids


@dataclass
class Walk:
    """What a leased request must say."""

    row: Row
    count: int
    got: list[int]

    @property
    def due(self) -> list[int]:
        return expected(self.row.prompt, self.count)


class AnySequence(RuleBasedStateMachine):
    """Random operations against a model of what each request must have said by now."""

    picks = st.integers(0, 2**16)

    @initialize()
    def begin(self) -> None:
        self.bench = Bench()
        self.ids = itertools.count(1)
        self.batches: dict[int, dict[int, Walk]] = {}
        self.deadlines: dict[int, float] = {}

    @rule(
        words=st.lists(st.sampled_from([410, 500, 599, 600, FAILS, FAILS_LATER, NOT_A_NUMBER]), min_size=1, max_size=3),
        count=st.integers(1, 4),
    )
    def prefill(self, words: list[int], count: int) -> None:
        walks = {next(self.ids): Walk(row([1, word], count), count, []) for word in words}
        try:
            result = self.bench.leases.prefill([(id, walk.row) for id, walk in walks.items()])
        except InvalidRequest:
            assert len(walks) > LIMITS.prefill_rows
        except Overloaded:
            assert len(walks) > LIMITS.rows - sum(map(len, self.batches.values()))
        except BackendError:
            assert {FAILS, NOT_A_NUMBER} & set(words)
        else:
            assert set(words).isdisjoint({FAILS, NOT_A_NUMBER})
            self._take(walks, result)

    @rule(first=picks, second=picks, joined=st.booleans())
    def decode(self, first: int, second: int, joined: bool) -> None:
        names = self._pick(first, second, joined)
        if not names:
            return
        walks = {id: walk for name in names for id, walk in self.batches[name].items()}
        for name in names[1:]:
            self._forget(name)
        self._forget(names[0])
        try:
            self._take(walks, self.bench.leases.decode(names))
        except BackendError:
            assert any(FAILS_LATER in walk.row.prompt for walk in walks.values())

    @rule(first=picks, second=picks, joined=st.booleans())
    def concatenate(self, first: int, second: int, joined: bool) -> None:
        names = self._pick(first, second, joined)
        if not names:
            return
        batch = self.bench.leases.concatenate(names)
        assert batch.id == names[0]
        for name in names[1:]:
            self.batches[names[0]] |= self.batches[name]
            self._forget(name)
        assert batch.request_ids == tuple(self.batches[names[0]])
        self.deadlines[names[0]] = self.bench.now + IDLE

    @rule(first=picks, kept=st.sets(picks, min_size=1))
    def filter(self, first: int, kept: set[int]) -> None:
        for name in self._pick(first, first, joined=False):
            walks = self.batches[name]
            keep = [id for place, id in enumerate(walks) if place in {each % len(walks) for each in kept}]
            assert self.bench.leases.filter(name, keep).request_ids == tuple(keep)
            self.batches[name] = {id: walks[id] for id in keep}
            self.deadlines[name] = self.bench.now + IDLE

    @rule(first=picks, everything=st.booleans())
    def release(self, first: int, everything: bool) -> None:
        names = list(self.batches) if everything else self._pick(first, first, joined=False)
        self.bench.leases.release(None if everything or not names else names[0])
        for name in names:
            self._forget(name)

    @rule(seconds=st.floats(0, IDLE))
    def pass_time(self, seconds: float) -> None:
        self.bench.pass_time(seconds)
        for name in [name for name, deadline in self.deadlines.items() if deadline <= self.bench.now]:
            self._forget(name)

    @invariant()
    def nothing_is_lost(self) -> None:
        """Each live request holds a slot of its own, and nobody else holds one, here or in the backend."""
        bench = self.bench
        live = [walk for walks in self.batches.values() for walk in walks.values()]
        held = {walk.row.slot for walk in live}
        assert len(held) == len(live)
        assert bench.slots.free_count + len(live) == bench.slots.count
        charged = sum(walk.row.demand.total_tokens for walk in live)
        assert bench.slots.free_tokens + charged == bench.slots.tokens
        assert set(bench.backend.slots) <= held
        for walk in live:
            assert walk.got == walk.due[: len(walk.got)]
            if len(walk.got) > 1:
                computed = bench.backend.slots[walk.row.slot]
                assert computed.state == sum(walk.row.prompt) + sum(walk.got[:-1])

    def _take(self, walks: dict[int, Walk], result: StepResult) -> None:
        for id, delta in result.deltas:
            walks[id].got += ids(delta)
            if delta.completion is not None:
                assert walks[id].got == walks[id].due
        live = {id: walk for id, walk in walks.items() if walk.got != walk.due}
        assert [id for id, _ in result.deltas] == list(walks)
        assert (result.batch.request_ids if result.batch else ()) == tuple(live)
        if result.batch is not None:
            self.batches[result.batch.id] = live
            self.deadlines[result.batch.id] = self.bench.now + IDLE

    def _pick(self, first: int, second: int, joined: bool) -> list[int]:
        names = list(self.batches)
        picked = [names[first % len(names)], names[second % len(names)]] if names else []
        return list(dict.fromkeys(picked if joined else picked[:1]))

    def _forget(self, name: int) -> None:
        del self.batches[name]
        del self.deadlines[name]


def test_any_sequence() -> None:
    """Whatever the order of operations, no row is lost or held twice."""
    run_state_machine_as_test(AnySequence, settings=settings(max_examples=60, stateful_step_count=30, deadline=None))
