"""Measure a server: `python -m benchmarks.serving`; see `--help`.

Starts `runtime serve` on a checkpoint of random weights, asks it over HTTP what the workloads say, and prints every
figure as a share of what this machine can do, measured in the same run; beside it what the engine does without a
server, and transformers' `generate`. The same goes to a file as JSON. Linux only.

With `--geometry full` the checkpoint has the size of llava-v1.6-mistral-7b: 15 GB on the disk and in memory, one round
of few tokens, without the comparisons.
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Final

import click

from benchmarks.checkpoint.geometry import GEOMETRIES
from benchmarks.checkpoint.writer import checkpoint
from benchmarks.serving.report import as_json, as_text
from benchmarks.serving.run import Plan, Run
from benchmarks.serving.workloads import WORKLOADS

BUILD: Final = Path("build")


@click.command(help=__doc__)
@click.option("--backend", default="cpu", show_default=True)
@click.option("--geometry", default="small", show_default=True, type=click.Choice(list(GEOMETRIES)))
@click.option("--threads", default=2, show_default=True, type=click.IntRange(1))
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1), help="1 with --geometry full.")
@click.option("--new-tokens", default=64, show_default=True, type=click.IntRange(2), help="8 with --geometry full.")
@click.option("--checkpoints", default=BUILD / "checkpoints", show_default=True, type=click.Path(path_type=Path))
@click.option("--json", "json_file", default=BUILD / "serving.json", show_default=True, type=click.Path(path_type=Path))
def main(
    backend: str, geometry: str, threads: int, rounds: int, new_tokens: int, checkpoints: Path, json_file: Path
) -> None:
    """Measure and tell."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to stop"))  # so that no server stays behind
    full = geometry == "full"
    _tell(f"checkpoint {geometry}")
    plan = Plan(
        geometry=geometry,
        model=checkpoint(geometry, checkpoints.resolve()),
        backend=backend,
        threads=threads,
        rounds=1 if full else rounds,
        new_tokens=8 if full else new_tokens,
        workloads=("W3x1", "W1") if full else tuple(WORKLOADS),
        bare=() if full else ("W2", "W3x8"),
        generate=() if full else ("W3x1", "W3x8"),
        warm_up=not full,
        second_questions=not full,
    )
    results = Run(plan, _tell).measure()
    json_file.parent.mkdir(parents=True, exist_ok=True)
    json_file.write_text(json.dumps(as_json(results), indent=2))
    print(as_text(results))


def _tell(progress: str) -> None:
    print(f"{progress} ...", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
