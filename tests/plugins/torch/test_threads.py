"""The team of threads that computes; each test settles one in a thread of its own, which ends with the test."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from runtime_torch import threads
from runtime_torch.threads import settle_threads

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="threads cannot be bound here")

SIBLINGS = {0: "0,4", 1: "1,5", 4: "0,4", 5: "1,5", 6: "6"}
"""Logical processors of three cores, two of them of two threads each."""


@pytest.fixture(autouse=True)
def _own_team() -> Iterator[None]:
    """PyTorch counts its threads for the whole process."""
    count = torch.get_num_threads()
    yield
    torch.set_num_threads(count)


def in_a_thread(work: Callable[[], None]) -> None:
    """Run on a new thread, and raise what it raises."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]


def processors(monkeypatch: pytest.MonkeyPatch, allowed: Sequence[int]) -> dict[int, set[int]]:
    """Pretend that the process may use these; returns what threads are bound to, 0 being the one that asks."""
    bound: dict[int, set[int]] = {}
    monkeypatch.setattr(os, "sched_getaffinity", lambda _thread: set(allowed))
    monkeypatch.setattr(os, "sched_setaffinity", bound.__setitem__)
    monkeypatch.setattr(threads, "_siblings", SIBLINGS.__getitem__)
    return bound


def test_one_for_each_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for each logical processor: two on a core share what computes. Each is bound to the first of its core."""
    bound = processors(monkeypatch, [0, 1, 4, 5, 6])

    def settle() -> None:
        assert settle_threads(None) == 3
        assert torch.get_num_threads() == 3
        assert bound.pop(0) == {0}
        assert sorted(map(sorted, bound.values())) == [[1], [6]]

    in_a_thread(settle)


def test_only_cores_that_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container may have fewer than there are."""
    bound = processors(monkeypatch, [5, 6])

    def settle() -> None:
        assert settle_threads(None) == 2
        assert bound.pop(0) == {5}
        assert list(bound.values()) == [{6}]

    in_a_thread(settle)


def test_chosen_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer are bound all the same; more than there are cores are left free, for they would wait for each other."""
    bound = processors(monkeypatch, [0, 1, 6])

    def settle(count: int, bound_to: list[int]) -> None:
        assert settle_threads(count) == count
        assert torch.get_num_threads() == count
        assert sorted(core for cores in bound.values() for core in cores) == bound_to
        bound.clear()

    in_a_thread(lambda: settle(2, [0, 1]))
    in_a_thread(lambda: settle(1, [0]))
    in_a_thread(lambda: settle(4, []))


def test_other_threads_stay_free() -> None:
    """Really: the thread that settles is bound to one core, and those of every thread there was stay as they were."""
    before = {int(task.name): os.sched_getaffinity(int(task.name)) for task in Path("/proc/self/task").iterdir()}

    def settle() -> None:
        settle_threads(None)
        assert len(os.sched_getaffinity(0)) == 1

    in_a_thread(settle)
    for thread, allowed in before.items():
        with suppress(ProcessLookupError):  # it has ended meanwhile
            assert os.sched_getaffinity(thread) == allowed


def test_results_do_not_change() -> None:
    """What the team computes is what one thread computes."""
    x = torch.arange(2.0**18)

    def settle() -> None:
        settle_threads(2)
        assert torch.equal(x * 3 + 1, torch.arange(1.0, 3 * 2.0**18, 3))

    in_a_thread(settle)


def test_machine_that_tells_nothing_of_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then every logical processor counts."""

    def refuse(_path: Path) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", refuse)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _thread: {2, 3})
    assert threads._cores() == [2, 3]
