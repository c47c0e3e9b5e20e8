"""Measure what `runtime verify` finds and what it lets pass: run `make verify-faults`; some minutes.

Every fault of `support.faults` must be found, at its stage, and right backends of random models must pass. The
tables of `docs/verify.md` are written from what came out. Exit status 1 when a fault is missed or an alarm is false.
"""

from __future__ import annotations

import logging
import re
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import torch
from runtime.model import read_model
from runtime.verify.verdict import order
from support.checkpoints import Checkpoint, write_checkpoint
from support.faults import FAULTS, MODEL, load
from support.verifying import Verifier, cpu, static

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "verify.md"
SEEDS: Final = 20
TABLE: Final = re.compile(r"(<!-- table: (?P<name>[a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main() -> int:
    """Measure, and write the page."""
    torch.set_num_threads(1)
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        missed, faults = _faults(Path(folder))
        false, seeds = _seeds(Path(folder))
    tables = {"faults": faults, "seeds": seeds}
    PAGE.write_text(TABLE.sub(lambda found: f"{found[1]}\n{tables[found['name']]}\n{found[3]}", PAGE.read_text()))
    print(f"{len(FAULTS) - missed} of {len(FAULTS)} faults found at their stage; {false} false alarms")
    return 1 if missed or false else 0


def _faults(folder: Path) -> tuple[int, str]:
    """Return how many faults were missed, and the table of all."""
    verifier = Verifier(read_model(write_checkpoint(folder / "faults", MODEL)), folder)
    missed, lines = 0, ["| fault | type | begins at | found at |", "|---|---|---|---|"]
    for fault in FAULTS.values():
        with pytest.MonkeyPatch.context() as patch:
            fault.make(patch)
            first = verifier.verify(load, fault.dtype).verdict.first
        missed += first is None or first.stage != fault.stage
        dtype = str(fault.dtype).removeprefix("torch.")
        found = "**nowhere**" if first is None else f"{first.stage}, case {first.case}, {first.place}"
        lines.append(f"| {fault.what} | {dtype} | {fault.stage} | {found} |")
        print(lines[-1], flush=True)
    return missed, "\n".join(lines)


def _seeds(folder: Path) -> tuple[int, str]:
    """Return how many right backends were blamed, and the largest error of each stage in multiples of the noise."""
    false = 0
    worst: defaultdict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for seed, checkpoint in _checkpoints():
        verifier = Verifier(read_model(write_checkpoint(folder / f"seed-{seed}", checkpoint)), folder / str(seed), seed)
        for name, make in (("cpu", cpu), ("toolkit", static)):
            for dtype in (torch.bfloat16, torch.float32):
                finding = verifier.verify(make, dtype)
                false += not finding.verdict.ok
                print(f"seed {seed}, {name}, {finding.dtype}: {finding.verdict.first or 'no divergence'}", flush=True)
                found = worst[name, finding.dtype]
                for stage in (stage for case in finding.verdict.cases for stage in case.stages):
                    found[stage.stage] = max(found.get(stage.stage, 0.0), stage.ratio)
    stages = sorted({stage for found in worst.values() for stage in found}, key=order)
    lines = [f"| backend | type | {' | '.join(stages)} |", "|---|---" * 1 + "|---" * len(stages) + "|"]
    for (name, dtype), found in worst.items():
        lines.append(f"| {name} | {dtype} | {' | '.join(f'{found[stage]:.2f}' for stage in stages)} |")
    return false, "\n".join(lines)


def _checkpoints() -> Iterator[tuple[int, Checkpoint]]:
    """Yield random models: stored in either type, of either number of key heads."""
    for seed in range(SEEDS):
        yield seed, Checkpoint(seed=seed, dtype="float32") if seed % 2 else Checkpoint(seed=seed, layers=3, kv_heads=4)


if __name__ == "__main__":
    sys.exit(main())
