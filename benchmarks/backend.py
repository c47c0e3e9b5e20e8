"""Where a backend's time goes, without server and engine: `python -m benchmarks.backend [--backend NAME]`.

Drives the hooks directly, on the device thread, with the workloads of `benchmarks.serving`, and prints what each hook
takes, as a share of the same bounds. `--profile` adds the operators of PyTorch that take the most time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final, TypeVar

import click
import torch
from runtime.backend import (
    DecodeBatch,
    DecodeShape,
    ModelSpec,
    Placement,
    PrefillBatch,
    PrefillShape,
)
from runtime.model import read_model
from runtime.plugins import Hooks
from runtime.prompt.builder import Prompt
from torch.profiler import profile

from benchmarks.checkpoint.geometry import GEOMETRIES
from benchmarks.checkpoint.writer import checkpoint
from benchmarks.serving.bare import BareEngine
from benchmarks.serving.bounds import Machine, bound_of
from benchmarks.serving.children import Child
from benchmarks.serving.server import CONTEXT
from benchmarks.serving.workloads import WORKLOADS

Result = TypeVar("Result")

ROWS: Final = 8
PROFILED: Final = 15
"""Operators that `--profile` prints."""


@dataclass(frozen=True, slots=True)
class HookTimes:
    """Seconds of one round."""

    prefill: float
    concatenate: float
    decode: float
    """Median of the steps."""

    @classmethod
    def median_of(cls, rounds: Sequence[HookTimes]) -> HookTimes:
        """Return the median of each hook."""
        return cls(*(median(getattr(each, field.name) for each in rounds) for field in fields(cls)))


def run(hooks: Hooks, prompts: list[Prompt], new_tokens: int) -> HookTimes:
    """Compute the prompts together, then append the most probable token to every row, again and again."""
    slots = range(len(prompts))
    output, prefill = _timed(partial(hooks.prefill, prefill_batch(prompts)))
    placements = tuple(Placement(slot, slot) for slot in slots)
    _, concatenate = _timed(partial(hooks.concatenate, output.prefix, placements))
    logits, steps = output.logits, []
    for step in range(new_tokens - 1):
        batch = decode_batch([len(prompt.tokens) + step for prompt in prompts], logits.argmax(-1))
        decoded, seconds = _timed(partial(hooks.decode, batch))
        logits = decoded.logits[: len(prompts)]
        steps.append(seconds)
    hooks.release(list(slots))
    return HookTimes(prefill, concatenate, median(steps))


def profiled(hooks: Hooks, prompts: list[Prompt], new_tokens: int) -> str:
    """Do the same and return the operators that take the most time of this thread."""
    with profile() as found:
        run(hooks, prompts, new_tokens)
    return str(found.key_averages().table(sort_by="self_cpu_time_total", row_limit=PROFILED, max_name_column_width=40))


def prefill_batch(prompts: list[Prompt]) -> PrefillBatch:
    """Return whole prompts for the first slots."""
    rows, lengths = len(prompts), [len(prompt.tokens) for prompt in prompts]
    tokens = torch.zeros(rows, max(lengths), dtype=torch.int64)
    for row, prompt in enumerate(prompts):
        tokens[row, : lengths[row]] = torch.tensor(prompt.tokens)
    return PrefillBatch(
        shape=PrefillShape(rows, max(lengths)),
        tokens=tokens,
        lengths=torch.tensor(lengths),
        offsets=torch.zeros(rows, dtype=torch.int64),
        slots=torch.arange(rows),
        images=tuple(prompt.images for prompt in prompts),
    )


def decode_batch(positions: list[int], tokens: torch.Tensor) -> DecodeBatch:
    """Return one token for each of the first slots; the others are idle."""
    rows = len(positions)
    idle = ROWS - rows
    return DecodeBatch(
        shape=DecodeShape(ROWS, CONTEXT),
        tokens=torch.cat([tokens, torch.zeros(idle, dtype=torch.int64)]),
        positions=torch.tensor([*positions, *[0] * idle]),
        active=torch.arange(ROWS) < rows,
    )


def _timed(work: Callable[[], Result]) -> tuple[Result, float]:
    started = time.perf_counter()
    return work(), time.perf_counter() - started


@click.command(help=__doc__)
@click.option("--backend", default="cpu", show_default=True)
@click.option("--geometry", default="small", show_default=True, type=click.Choice(list(GEOMETRIES)))
@click.option("--threads", default=2, show_default=True, type=click.IntRange(1))
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1))
@click.option("--new-tokens", default=64, show_default=True, type=click.IntRange(2))
@click.option("--checkpoints", default=Path("build/checkpoints"), show_default=True, type=click.Path(path_type=Path))
@click.option("--profile", "with_profile", is_flag=True)
def main(
    backend: str, geometry: str, threads: int, rounds: int, new_tokens: int, checkpoints: Path, with_profile: bool
) -> None:
    """Measure and print."""
    path = checkpoint(geometry, checkpoints.resolve())
    with Child("benchmarks.serving.machine", threads, pinned=True) as child:
        before = child.ask()
        measured = asyncio.run(_measure(backend, path, threads, rounds, new_tokens, with_profile))
        after = child.ask()
    machine = Machine(*(max(before[rate], after[rate]) for rate in ("read", "multiply")))
    print(f"{'':6}{'prefill ms':>12}{'share':>7}{'concatenate ms':>16}{'decode ms':>11}{'share':>7}")
    for name, (prompts, times) in measured.items():
        print(_line(name, read_model(path), machine, prompts, times, new_tokens))


async def _measure(
    backend: str, path: Path, threads: int, rounds: int, new_tokens: int, with_profile: bool
) -> dict[str, tuple[list[Prompt], HookTimes]]:
    """Return the prompts of each workload and the medians of its rounds."""
    engine = await BareEngine.load(backend, path, threads, ROWS)

    async def on_device(work: Callable[[Hooks, list[Prompt], int], Result], prompts: list[Prompt]) -> Result:
        return await asyncio.wrap_future(engine.runtime.engine.call(lambda hooks, _: work(hooks, prompts, new_tokens)))

    measured = {}
    for name, workload in WORKLOADS.items():
        prompts, *others = [engine.prompts(workload.inputs(seed)) for seed in range(rounds + 1)]
        await on_device(run, prompts)  # the first round of a kind is slower
        if with_profile:
            print(name, await on_device(profiled, prompts))
        measured[name] = prompts, HookTimes.median_of([await on_device(run, each) for each in others])
    await engine.runtime.aclose()
    return measured


def _line(
    name: str, model: ModelSpec, machine: Machine, prompts: list[Prompt], times: HookTimes, new_tokens: int
) -> str:
    tiles = 0 if prompts[0].images is None else sum(prompts[0].images.counts)
    bound = bound_of(model, machine, len(prompts), len(prompts[0].tokens), tiles, new_tokens)
    return (
        f"{name:6}{1e3 * times.prefill:>12.1f}{len(prompts) * bound.prompt / times.prefill:>7.0%}"
        f"{1e3 * times.concatenate:>16.2f}{1e3 * times.decode:>11.2f}{bound.step / times.decode:>7.0%}"
    )


if __name__ == "__main__":
    main()
