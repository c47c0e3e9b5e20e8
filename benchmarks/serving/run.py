"""A run: everything that is compared is measured in turns, so that what disturbs the machine disturbs all of it."""

from __future__ import annotations

import os
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import runtime
import transformers
from runtime.geometry import tile_count
from runtime.model import read_model

from benchmarks.serving.bounds import Machine, bound_of
from benchmarks.serving.children import Child
from benchmarks.serving.figures import Figures, Reply
from benchmarks.serving.results import Results
from benchmarks.serving.server import Memory, Server
from benchmarks.serving.workloads import SIDE, WORKLOADS, Workload, question

WARM_UP_SEED: Final = 10**6
PICTURE_SEED: Final = 2 * 10**6
"""Seeds from here on are of second questions."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure."""

    geometry: str
    model: Path
    backend: str
    threads: int
    rounds: int
    new_tokens: int
    workloads: tuple[str, ...]
    bare: tuple[str, ...]
    """Workloads that the bare engine runs too."""
    generate: tuple[str, ...]
    """And those of transformers."""
    warm_up: bool
    second_questions: bool


Runner = Callable[[Workload, int, int], list[Reply]]
"""Takes a workload, a seed and how many tokens each reply shall have."""


class Run:
    """Processes that are measured, and what was found so far."""

    def __init__(self, plan: Plan, tell: Callable[[str], None]) -> None:
        self._plan = plan
        self._tell = tell
        self._machine: list[dict[str, Any]] = []
        self._rounds: dict[tuple[str, str], list[Figures]] = defaultdict(list)
        self._prompt_tokens: dict[str, int] = {}

    def measure(self) -> Results:
        """Start everything, measure in turns, and stop everything."""
        plan, load = self._plan, os.getloadavg()[0]
        rows = max(WORKLOADS[name].requests for name in plan.workloads)
        with ExitStack() as stack:
            machine = stack.enter_context(Child("benchmarks.serving.machine", plan.threads, pinned=True))
            self._machine.append(machine.ask())
            self._tell("starting the server")
            server = stack.enter_context(Server(plan.backend, plan.model, plan.threads, rows))
            ready = server.memory()
            runners = {"served": _served(server)}
            for name, arguments in self._children(rows).items():
                pinned = name == "generate"  # a backend pins its own threads
                module = f"benchmarks.serving.{name}"
                child = stack.enter_context(Child(module, plan.threads, *arguments, pinned=pinned))
                runners[name] = _of(child)
            turns = [(name, workload, runners[name]) for workload in plan.workloads for name in self._who(workload)]
            if plan.warm_up:
                for name, workload, runner in turns:
                    self._tell(f"warming up: {workload} {name}")
                    runner(WORKLOADS[workload], WARM_UP_SEED, 3)
            for number in range(plan.rounds):
                for name, workload, runner in turns:
                    self._tell(f"round {number + 1} of {plan.rounds}: {workload} {name}")
                    self._take(name, workload, runner(WORKLOADS[workload], number, plan.new_tokens))
                self._machine.append(machine.ask())
            second = self._second_question(server) if plan.second_questions else None
            return self._results(load, server.ready_seconds, ready, server.memory(), second)

    def _children(self, rows: int) -> dict[str, tuple[str, ...]]:
        """Return the helper processes and their arguments."""
        plan = self._plan
        children: dict[str, tuple[str, ...]] = {}
        if plan.bare:
            children["bare"] = (plan.backend, str(plan.model), str(plan.threads), str(rows))
        if plan.generate:
            children["generate"] = (str(plan.model),)
        return children

    def _who(self, workload: str) -> Iterator[str]:
        yield "served"
        if workload in self._plan.bare:
            yield "bare"
        if workload in self._plan.generate:
            yield "generate"

    def _take(self, name: str, workload: str, replies: Sequence[Reply]) -> None:
        self._rounds[name, workload].append(Figures.of(replies))
        self._prompt_tokens[workload] = max(reply.prompt_tokens for reply in replies)

    def _second_question(self, server: Server) -> float:
        """Ask twice about each of some pictures; return the median share of the waits."""
        shares = []
        for seed in range(PICTURE_SEED, PICTURE_SEED + self._plan.rounds):
            self._tell("second questions")
            first, second = (
                Figures.of(server.run([question(seed, words_seed)], 2)).first_token for words_seed in (seed, -seed)
            )
            shares.append(second / first)
        return statistics.median(shares)

    def _results(
        self, load: float, ready_seconds: float, ready: Memory, after: Memory, second: float | None
    ) -> Results:
        plan, model, last = self._plan, read_model(self._plan.model), self._machine[-1]
        machine = Machine(*(max(measured[rate] for measured in self._machine) for rate in ("read", "multiply")))
        bounds = {}
        for name in plan.workloads:
            workload = WORKLOADS[name]
            assert model.images is not None
            tiles = tile_count((SIDE, SIDE), model.images) if workload.picture else 0
            tokens = self._prompt_tokens[name]
            bounds[name] = bound_of(model, machine, workload.requests, tokens, tiles, plan.new_tokens)
        return Results(
            geometry=plan.geometry,
            backend=plan.backend,
            threads=plan.threads,
            rounds=plan.rounds,
            new_tokens=plan.new_tokens,
            versions={
                "vlm-runtime": runtime.__version__,
                "torch": last["torch"],
                "transformers": transformers.__version__,
                "CPU": last["cpu"],
            },
            load_average=load,
            machine=machine,
            read_by=last["read_by"],
            bounds=bounds,
            served=self._medians("served"),
            bare=self._medians("bare"),
            generate=self._medians("generate"),
            second_question=second,
            ready_seconds=ready_seconds,
            memory_when_ready=ready,
            memory=after,
        )

    def _medians(self, name: str) -> dict[str, Figures]:
        rounds = {workload: figures for (who, workload), figures in self._rounds.items() if who == name}
        return {workload: Figures.median_of(figures) for workload, figures in rounds.items()}


def _served(server: Server) -> Runner:
    return lambda workload, seed, new_tokens: server.run(workload.inputs(seed), new_tokens)


def _of(child: Child) -> Runner:
    def run(workload: Workload, seed: int, new_tokens: int) -> list[Reply]:
        answers = child.ask(workload=workload.name, seed=seed, new_tokens=new_tokens)
        return [Reply.of(fields) for fields in answers]

    return run
