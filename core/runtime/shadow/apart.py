"""The judge in a process of its own: it has its own lock, threads and priority, and may run out of memory alone."""

from __future__ import annotations

import multiprocessing
import os
import signal
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from runtime.backend import Limits, ModelSpec
from runtime.plugins import Hooks, backend_named, told
from runtime.shadow.judge import Judge, Judgement, Question
from runtime.verify.verification import REFERENCE_DTYPE

NICENESS: Final = 10
"""Added to that of the server: about a tenth of a core's time where the server wants all of it."""

OOM_SCORE: Final = Path("/proc/self/oom_score_adj")


@dataclass(frozen=True, slots=True)
class Plan:
    """Which shadow is loaded, and how."""

    backend: str
    model: ModelSpec
    limits: Limits
    """One row, whose prompts may be as long as its context; with the shadow's options."""

    def load(self, dtype: str) -> Hooks:
        """Load it to compute in a type; lets through what the plugin raises."""
        found = backend_named(self.backend)
        assert found.spec is not None
        limits = replace(self.limits, options={**self.limits.options, REFERENCE_DTYPE: dtype})
        return Hooks(found.name, found.spec.load(self.model, limits), self.model, limits)


class ShadowFailed(Exception):
    """The shadow could not compute a row."""


class ShadowEnded(Exception):
    """Its process is gone: killed, as a system does that is short of memory, or closed."""


class JudgeApart:
    """Starts the process with the first question; used by one thread, but for `close`."""

    def __init__(self, plan: Plan) -> None:
        context = multiprocessing.get_context("spawn")  # not forked: the device's threads would not be there
        self._connection, self._theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(plan, self._theirs), name="shadow", daemon=True)
        self._process.start()
        self._theirs.close()

    def judged(self, question: Question) -> Judgement:
        """Have a question answered; raises ShadowFailed in the words of the shadow, and ShadowEnded."""
        try:
            self._connection.send(question)
            answer = self._connection.recv()
        except (EOFError, OSError):
            raise ShadowEnded("the process of the shadow ended") from None
        if isinstance(answer, Judgement):
            return answer
        raise ShadowFailed(answer)

    def close(self) -> None:
        """End the process; a question at work raises ShadowEnded. From any thread."""
        self._process.kill()
        self._process.join()


def _serve(plan: Plan, connection: Connection) -> None:
    """Answer questions until the server is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
    os.nice(NICENESS)
    with suppress(OSError):
        OOM_SCORE.write_text("1000")  # short of memory, Linux ends the shadow and not the server
    judge = Judge(plan.model, plan.limits.prefill_tokens, plan.load)
    with suppress(EOFError, OSError):
        while True:
            question = connection.recv()
            try:
                answer: Judgement | str = judge.judged(question)
            except Exception as error:
                answer = told(error)
            connection.send(answer)
