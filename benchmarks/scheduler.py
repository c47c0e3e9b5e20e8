"""Host time of a decode step: `python benchmarks/scheduler.py`.

Runs the real engine, on its thread, with a backend that answers at once, and takes each step apart. The overhead is
what is neither the backend's hook nor choosing and detokenizing: scheduler, engine, batch building and the hook's
call and checks. The set-up of sampling happens when the rows change, not each step, and is told apart. The bars are
0.3 ms at 8 rows and 1 ms at 64, set-up included.

`--profile` prints where the device thread spends its time instead; `--waiting N` keeps N requests in the queue.
"""

from __future__ import annotations

import argparse
import cProfile
import itertools
import pstats
import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, cast

import torch
from runtime import demo, hookimpl
from runtime.backend import Backend, DecodeOutput, Limits, PrefillBatch, PrefillOutput, Prefix
from runtime.budgets import Budgets, Demand
from runtime.engine import Engine
from runtime.model import read_model
from runtime.plugins import Hooks
from runtime.prompt.tokenizer import Tokenizer
from runtime.row import Outcome, Row
from runtime.runtime import SamplingParameters, StoppingParameters
from runtime.sampling import sampler
from runtime.sampling.stopping import StopRule
from runtime.scheduler import Scheduler
from runtime.slots import SlotTable
from runtime.stepper import is_final
from runtime.telemetry.metrics import Metrics

MODEL: Final = read_model(demo.MODEL)
PROMPT: Final = tuple(range(400, 432))
BARS: Final = {8: 0.3, 64: 1.0}
"""Rows: milliseconds of overhead."""
WARM_UP_STEPS: Final = 20


class Stopwatch:
    """Adds up the time of named parts, per decode step, in nanoseconds."""

    def __init__(self) -> None:
        self.steps: list[dict[str, int]] = []
        self._now: dict[str, int] = defaultdict(int)
        self._last = 0

    def step(self, backend_ns: int) -> None:
        """End a step when its backend is done; a step is all that happens from one such moment to the next."""
        now = time.perf_counter_ns()
        self.steps.append({**self._now, "step": now - self._last, "backend": backend_ns})
        self._now.clear()
        self._last = now

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **named: Any) -> Any:
            started = time.perf_counter_ns()
            try:
                return function(*arguments, **named)
            finally:
                self._now[part] += time.perf_counter_ns() - started

        return run

    @contextmanager
    def on(self, *parts: tuple[str, object, str]) -> Iterator[None]:
        """Time (part, owner, function) for a while."""
        before = [(owner, name, getattr(owner, name)) for _, owner, name in parts]
        for part, owner, name in parts:
            setattr(owner, name, self.timed(part, getattr(owner, name)))
        try:
            yield
        finally:
            for owner, name, function in before:
                setattr(owner, name, function)

    def median(self, part: str) -> float:
        """Milliseconds per step, over the steps in which rows neither come nor go."""
        return statistics.median(step.get(part, 0) for step in self.steps[WARM_UP_STEPS:-1]) / 1e6


class NullBackend:
    """Goes through some words in turn, the same for all rows, at no cost."""

    def __init__(self, rows: int, watch: Stopwatch) -> None:
        self._watch = watch
        words = torch.arange(500, 532)
        logits = torch.zeros(len(words), 1, MODEL.vocabulary).scatter(-1, words[:, None, None], 9.0)
        self._logits = itertools.cycle([DecodeOutput(each.repeat(rows, 1)) for each in logits])

    @hookimpl
    def prefill(self, batch: PrefillBatch) -> PrefillOutput:
        return PrefillOutput(next(self._logits).logits[: batch.shape.rows], Prefix(None))

    @hookimpl
    def concatenate(self) -> None: ...

    @hookimpl
    def decode(self) -> DecodeOutput:
        started = time.perf_counter_ns()
        output = next(self._logits)
        self._watch.step(time.perf_counter_ns() - started)
        return output


def run(rows: int, steps: int, waiting: int, profile: cProfile.Profile | None = None) -> Stopwatch:
    """Decode `steps` tokens for each of `rows`, while `waiting` more queue for a slot."""
    watch = Stopwatch()
    limits = Limits(rows=rows, context=len(PROMPT) + steps, prefill_rows=rows, prefill_tokens=len(PROMPT))
    tokenizer = Tokenizer.load(demo.MODEL, MODEL.image_token_id)
    done, left = threading.Event(), rows

    def load() -> Hooks:
        if profile is not None:
            profile.enable()
        return Hooks("null", cast(Backend, NullBackend(rows, watch)), MODEL, limits)  # a hook may take fewer arguments

    def deliver(outcomes: Sequence[tuple[Row, Outcome]]) -> None:
        nonlocal left
        left -= sum(is_final(outcome) for _, outcome in outcomes)
        if left == 0:
            if profile is not None:
                profile.disable()
            done.set()

    metrics = Metrics(limits.prefill_tokens, limits.context, limits.rows)
    engine = Engine(load, deliver, lease_idle_seconds=300, metrics=metrics)
    for key in range(rows + waiting):
        engine.submit(_row(key, tokenizer, steps))
    parts: list[tuple[str, object, str]] = [
        ("choosing", sampler.Sampler, "choose"),
        ("set-up", sampler, "prepare"),
        ("detokenizing", Row, "tell"),
    ]
    with watch.on(*([] if profile is not None else parts)):
        engine.start()
        done.wait()
        engine.stop()
    return watch


def _row(key: int, tokenizer: Tokenizer, steps: int) -> Row:
    return Row(
        key=key,
        prompt=PROMPT,
        images=None,
        demand=Demand(len(PROMPT), len(PROMPT) + steps),
        sampling=SamplingParameters(),
        seed=key,
        stop_rule=StopRule.of(StoppingParameters(max_new_tokens=steps), steps, frozenset()),
        vocabulary=tokenizer,
    )


def queue(waiting: int, rows: int = 64) -> None:
    """Print what the scheduler alone takes when nobody can be admitted: its worst case."""
    budgets = Budgets(prefill_tokens=64 * 1024, total_tokens=rows * 1024)
    scheduler: Scheduler[int] = Scheduler(SlotTable(2 * rows, budgets.total_tokens), rows, budgets)
    demands = [Demand(1 + 37 * key % 1000, 1024) for key in range(rows + waiting)]
    for key in range(rows):
        scheduler.add(key, demands[key], 0.0)
    scheduler.next_step(0.0)
    medians = {
        "add": _microseconds(partial(scheduler.add, key, demands[key], 1.0) for key in range(rows, rows + waiting)),
        "step": _microseconds(partial(scheduler.next_step, 1.05) for _ in range(1000)),
        "cancel": _microseconds(partial(scheduler.remove, key) for key in range(rows, rows + waiting)),
    }
    told = ", ".join(f"{name} {median:.1f} us" for name, median in medians.items())
    print(f"scheduler alone, {rows} running, {waiting} waiting: {told}")


def _microseconds(calls: Iterable[Callable[[], object]]) -> float:
    times = []
    for call in calls:
        started = time.perf_counter_ns()
        call()
        times.append(time.perf_counter_ns() - started)
    return statistics.median(times) / 1e3


def report(rows: int, watch: Stopwatch) -> None:
    """Print where the time of a step goes."""
    parts = {part: watch.median(part) for part in ("backend", "choosing", "detokenizing")}
    step = watch.median("step")
    overhead = step - sum(parts.values())
    set_up = max(each.get("set-up", 0) for each in watch.steps) / 1e6
    print(f"{rows:3} rows: {step:6.3f} ms a step")
    for part, milliseconds in parts.items():
        print(f"     {part:14}{milliseconds:6.3f} ms")
    print(f"     {'overhead':14}{overhead:6.3f} ms, and {set_up:.3f} ms when the rows change; bar {BARS[rows]} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--waiting", type=int, default=0)
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for rows in BARS:
        profile = cProfile.Profile() if arguments.profile else None
        watch = run(rows, arguments.steps, arguments.waiting, profile)
        if profile is None:
            report(rows, watch)
        else:
            pstats.Stats(profile).sort_stats("tottime").print_stats(20)
    for waiting in (128, 1000):
        queue(waiting)


if __name__ == "__main__":
    main()
