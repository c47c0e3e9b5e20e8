"""Who is refused at the door and what they are told, on a server whose pace is known: 0.1 s a token, 1 s a step."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
from runtime.admission import Admission, AdmissionLimits, Place
from runtime.admission.forecast import Room
from runtime.budgets import Demand
from runtime.errors import BackendError, Overloaded
from runtime.runtime import (
    Completion,
    Delta,
    FinishReason,
    GenerateRequest,
    Resumption,
    StoppingParameters,
)
from runtime.telemetry.metrics import Metrics
from support.scrape import read_scrape

RESUMED = GenerateRequest(resumption=Resumption())


@dataclass
class FakeRow:
    """What admission reads of a row: a prompt of 10 tokens, in a slot or waiting for one."""

    reply: int = 20
    slot: int = 0
    prompt: list[int] = field(default_factory=lambda: [1] * 10)
    generated: list[int] = field(default_factory=list)
    started: float = 0.0
    cached: int = 0
    part: slice = field(default_factory=lambda: slice(0, 10))

    @property
    def demand(self) -> Demand:
        return Demand(10, 10 + self.reply)


class Door:
    """An admission with two slots, and those who came in."""

    def __init__(self, slots: int = 2, **limits: Any) -> None:
        self.metrics = Metrics(100, 100, 2)
        limits = {"concurrent": 10, **limits}
        self.admission = Admission(AdmissionLimits(**limits), lambda: Room(slots, 1000), self.metrics)
        self.open = ExitStack()

    def learn(self) -> None:
        """See a prompt computed in 1 s, and one step of 1 s."""
        row = FakeRow(started=100.0, generated=[7])
        self.admission.stepped([(row, Delta(()))], 101.0)  # type: ignore[list-item]
        row.generated.append(8)
        self.admission.stepped([(row, Delta(()))], 102.0)  # type: ignore[list-item]

    def enter(self, row: FakeRow | None = None, request: GenerateRequest | None = None, **fields: Any) -> Place:
        """Come in, and be prepared when a row is given."""
        request = request or GenerateRequest(**fields)
        place = self.open.enter_context(self.admission.place(request))
        if row is not None:
            self.admission.prepared(place, row, request)  # type: ignore[arg-type]
        return place

    def refused(self, match: str, **fields: Any) -> int | None:
        """Be refused; returns when to try again."""
        with pytest.raises(Overloaded, match=match) as caught:
            self.enter(**fields)
        return caught.value.retry_seconds

    def scraped(self, name: str) -> dict[str, float]:
        """Values of a metric."""
        return read_scrape(self.metrics.exposition())[name].values


def deadline(seconds: float) -> float:
    """So far from now."""
    return time.monotonic() + seconds


def test_concurrency() -> None:
    """As TGI: all that is in the server, and nothing else bounds it."""
    door = Door(concurrent=3)
    for _ in range(3):
        door.enter(FakeRow(slot=-1))
    assert door.refused("works on 3 of at most 3 requests") == 5
    assert door.scraped("runtime_requests_refused_total")["concurrency"] == 1
    door.open.close()
    door.enter()


def test_concurrency_tells_when_to_come_back() -> None:
    """When the first of two that run has ended: it has 8 steps left."""
    door = Door(concurrent=2)
    door.learn()
    door.enter(FakeRow(reply=20, generated=[7] * 12))
    door.enter(FakeRow(reply=20, generated=[7] * 9))
    assert door.refused("works on 2") == 8


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_queue(limit: int) -> None:
    """Two run, so many may wait, in preparation or in the queue, and one more is refused."""
    door = Door(queue=limit)
    for slot in (0, 1):
        door.enter(FakeRow(slot=slot))
    for number in range(limit):
        door.enter(FakeRow(slot=-1) if number else None)
    door.refused(f"the server is full and {limit} of at most {limit} requests wait")
    assert door.scraped("runtime_requests_refused_total")["queue_full"] == 1


def test_a_crowd_that_finds_the_server_idle() -> None:
    """As many as there are slots wait for nobody, though none has its slot yet."""
    door = Door(queue=0)
    door.enter()
    door.enter(FakeRow(slot=-1))
    door.refused("the server is full")


def test_queue_of_a_server_that_serves_nothing() -> None:
    """Is no reason to refuse: that it is loading is told instead."""
    Door(slots=0, queue=0).enter()


def test_no_wait_is_foreseen_at_first() -> None:
    """Whatever is there: a cold server refuses nobody for what it does not know."""
    door = Door(queue_seconds=0)
    for _ in range(9):
        door.enter(FakeRow(slot=-1), deadline=deadline(0.001))
    assert door.scraped("runtime_predicted_wait_seconds") == {"": 0}


def test_predicted_wait() -> None:
    """30 steps until a slot is free are too long where 12 s are allowed; come back when 12 s of them are left."""
    door = Door(queue_seconds=12)
    door.learn()
    for _ in range(2):
        door.enter(FakeRow(reply=40, generated=[7] * 10))
    assert door.scraped("runtime_predicted_wait_seconds") == {"": pytest.approx(30)}
    assert door.refused("would be about 30 s, .* longer than 12 s") == 18
    assert door.scraped("runtime_requests_refused_total")["predicted_wait"] == 1


def test_predicted_wait_that_is_allowed() -> None:
    """Longer than it, and nobody is refused; nor where no time is set at all."""
    for limits in ({"queue_seconds": 31}, {}):
        door = Door(**limits)
        door.learn()
        for _ in range(2):
            door.enter(FakeRow(reply=40, generated=[7] * 10))
        door.enter()


@pytest.mark.parametrize(("seconds", "is_refused"), [(2, True), (9, True), (11, False), (100, False)])
def test_deadline(seconds: float, is_refused: bool) -> None:
    """A prompt of 1 s and 19 more steps take 20 s, which is far beyond less than 10 s."""
    door = Door()
    door.learn()
    if is_refused:
        retry = door.refused("about 20 s, and the deadline is in", row=FakeRow(), deadline=deadline(seconds))
        assert retry in (20 - seconds, 21 - seconds)
        assert door.scraped("runtime_requests_refused_total")["deadline"] == 1
    else:
        door.enter(FakeRow(), deadline=deadline(seconds))


def test_deadline_is_looked_at_before_the_prompt_is_prepared() -> None:
    """No picture is fetched for a reply whose tokens alone take too long."""
    door = Door()
    door.learn()
    asked = StoppingParameters(max_new_tokens=61)
    door.refused("about 60 s, and the deadline is in", stopping=asked, deadline=deadline(5))


def test_what_is_being_prepared_is_work_ahead() -> None:
    """Of a usual size: 10 tokens and 20 for the reply, so that the third waits for the first to end."""
    door = Door()
    door.learn()
    completion = Completion("", FinishReason.LENGTH, 20, 10, None)
    door.admission.stepped([(FakeRow(generated=[7] * 20), Delta((), completion))], 103.0)  # type: ignore[list-item]
    for _ in range(2):
        door.enter()
    assert door.scraped("runtime_predicted_wait_seconds")[""] == pytest.approx(2 * 1 + 20)


def test_resumed_requests_are_let_in() -> None:
    """They were let in before, by a worker that is gone; their number is bounded all the same."""
    door = Door(concurrent=2, queue=0, queue_seconds=2)
    door.learn()
    for _ in range(2):
        door.enter(FakeRow())
    for _ in range(2):
        door.enter(FakeRow(slot=-1), request=RESUMED)
    door.refused("works on 4 of at most 4", request=RESUMED)


def test_steps_that_failed_teach_nothing() -> None:
    """Their time is not that of a step that went well; nor does it count for the next."""
    door = Door(queue_seconds=1)
    row = FakeRow(started=100.0, generated=[7])
    door.admission.stepped([(row, BackendError("lost"))], 150.0)  # type: ignore[list-item]
    door.admission.stepped([], 160.0)
    door.admission.stepped([(row, Delta(()))], 161.0)  # type: ignore[list-item]
    row.generated.append(8)
    door.admission.stepped([(row, Delta(()))], 162.0)  # type: ignore[list-item]
    for _ in range(2):
        door.enter(FakeRow(reply=11, generated=[7]))
    assert door.refused("would be about 10 s") == 9


def test_parts_of_a_prompt_are_what_was_computed() -> None:
    """The last 2 of its 10 tokens took 0.2 s; the 4 that its slot held before took none, and count with the first."""
    door = Door()
    row = FakeRow(started=100.0, generated=[7], cached=4, part=slice(8, 10))
    door.admission.stepped([], 107.0)
    door.admission.stepped([(row, Delta(()))], 107.2)  # type: ignore[list-item]
    row.generated.append(8)
    door.admission.stepped([(row, Delta(()))], 108.2)  # type: ignore[list-item]
    door.enter(FakeRow(reply=1, slot=-1))
    door.enter(FakeRow(reply=1, slot=-1))
    assert door.scraped("runtime_predicted_wait_seconds")[""] == pytest.approx(2 * 10 * 0.1)
