"""Rows between the device thread and the judge, with a judge that does as it is told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from runtime.shadow.apart import ShadowEnded, ShadowFailed
from runtime.shadow.comparing import WAITING, Comparer
from runtime.shadow.held import Held
from runtime.shadow.judge import Difference, Judgement, Question
from runtime.shadow.wrapper import Followed
from runtime.telemetry.metrics import Metrics
from support.scrape import read_scrape

FINE = Judgement(0.5, 1.5, None)


class Told:
    """Answers what it is told to, when it may; the end of the answers is its own end."""

    def __init__(self, *answers: Judgement | Exception) -> None:
        self.answers = list(answers)
        self.questions: list[Question] = []
        self.asked = threading.Event()
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.closed = False

    def judged(self, question: Question) -> Judgement:
        self.questions.append(question)
        self.asked.set()
        assert self.may_answer.wait(30)
        if self.closed or not self.answers:
            raise ShadowEnded("gone")
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        self.closed = True
        self.may_answer.set()


def row(*reply: int) -> Followed:
    """A row in slot 3 whose prompt is [7, 8], with logits for every step."""
    return Followed(3, Held([7, 8]), "bfloat16", [torch.zeros(4)] * (1 + len(reply)), list(reply))


def counted(metrics: Metrics, name: str) -> dict[str, float]:
    """The values of a metric, by label."""
    return dict(read_scrape(metrics.exposition())[f"runtime_shadow_{name}"].values)


@contextmanager
def comparing(judge: Told) -> Iterator[tuple[Comparer, Metrics]]:
    """A comparer with this judge."""
    metrics = Metrics(10, 20, 2)
    comparer = Comparer(lambda: judge, metrics)
    comparer.start()
    try:
        yield comparer, metrics
    finally:
        comparer.close()


def wait_until_done(comparer: Comparer, judge: Told, questions: int) -> None:
    """Wait for an answer to the last of so many questions, by having one more row asked about."""
    while len(judge.questions) < questions + 1:
        judge.asked.clear()
        if not comparer.is_busy:
            comparer.put(row())
        assert judge.asked.wait(30)


def test_every_step_is_judged(caplog: pytest.LogCaptureFixture) -> None:
    """Teacher-forced by what was decoded; of the differences the first that is large is told."""
    noise, large = Difference(3, 1, 2, 0.1, 0.2), Difference(4, 5, 6, 3.0, 0.2)
    judge = Told(FINE, Judgement(0.0, 2.0, noise), Judgement(0.0, 64.0, large), Judgement(0.0, 9.0, large), FINE)
    with comparing(judge) as (comparer, metrics):
        comparer.put(row(10, 11, 12))
        wait_until_done(comparer, judge, 5)
        assert [(each.tokens, each.begins) for each in judge.questions[:4]] == [
            ((7, 8), True),
            ((10,), False),
            ((11,), False),
            ((12,), False),
        ]
        assert counted(metrics, "compared_total")[""] == 5
        assert counted(metrics, "disagreements_total") == {"rounding": 1, "large": 2}
        assert counted(metrics, "largest_error") == {"": 64.0}
    (line,) = [record.message for record in caplog.records if "margin" in record.message]
    assert line.startswith("slot 3, position 4: the backend has token 6, the shadow 5 by a margin of 3, where rounding")


def test_full_queue() -> None:
    """What there is no room for is dropped, at once."""
    judge = Told(*[FINE] * 20)
    judge.may_answer.clear()
    with comparing(judge) as (comparer, metrics):
        comparer.put(row())
        assert judge.asked.wait(30)
        for _ in range(WAITING):
            assert not comparer.is_busy
            comparer.put(row())
        assert comparer.is_busy
        comparer.put(row())
        assert counted(metrics, "dropped_total") == {"busy": 1, "unknown": 0, "failed": 0}


def test_row_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    """The rest of it is left out; the next row is compared."""
    judge = Told(ShadowFailed("too long"), *[FINE] * 20)
    with comparing(judge) as (comparer, metrics):
        comparer.put(row(10, 11))
        comparer.put(row())
        wait_until_done(comparer, judge, 2)
        assert [each.begins for each in judge.questions[:2]] == [True, True]
        assert counted(metrics, "dropped_total")["failed"] == 1
    assert "the shadow could not compute a row: too long" in caplog.messages


def test_end_of_the_judge(caplog: pytest.LogCaptureFixture) -> None:
    """It is not started again, which would only run out of memory again; every row counts as dropped from then on."""
    judge = Told()
    with comparing(judge) as (comparer, metrics):
        for _ in range(20):
            while comparer.is_busy:
                pass
            comparer.put(row())
        while counted(metrics, "dropped_total")["failed"] < 20:
            pass
    assert len(judge.questions) == 1
    assert caplog.messages == ["no more rows are compared with the shadow: gone"]


def test_end_of_the_server(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever is being compared; nothing is told of it."""
    judge = Told(*[FINE] * 20)
    judge.may_answer.clear()
    with comparing(judge) as (comparer, _):
        for _ in range(WAITING + 1):
            comparer.put(row())
        assert judge.asked.wait(30)
    assert judge.closed
    assert len(judge.questions) == 1
    assert caplog.messages == []
