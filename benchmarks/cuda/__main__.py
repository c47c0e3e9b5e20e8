"""The backend `cuda` on one card, in shares of bounds measured in the same run: `python -m benchmarks.cuda`.

Weights are random and made on the device, of the geometry of llava-v1.6-mistral-7b. `--smoke` tries everything out with
tiny sizes on the CPU; its figures mean nothing. The bars are those of docs/cuda.md.
"""

from __future__ import annotations

import gc
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import torch
from runtime.model.reader import read_configs

from benchmarks.checkpoint.config import config_json, generation_config_json, preprocessor_config_json
from benchmarks.checkpoint.geometry import GEOMETRIES, Geometry
from benchmarks.cuda.card import Card
from benchmarks.cuda.generate import Generate
from benchmarks.cuda.steps import FULL, SMOKE, Bench, Sizes
from benchmarks.serving.bounds import Machine, prompt_operations, step_bytes, tile_operations

GIB = 2**30


@click.command(help=__doc__)
@click.option("--geometry", default="full", show_default=True, type=click.Choice(list(GEOMETRIES)))
@click.option("--smoke", is_flag=True, help="Tiny sizes, on the CPU.")
@click.option("--no-transformers", is_flag=True, help="Leave the comparison out.")
@click.option("--json", "file", type=click.Path(path_type=Path, dir_okay=False), help="Write the figures here too.")
def main(geometry: str, smoke: bool, no_transformers: bool, file: Path | None) -> None:
    """Measure and print."""
    if not smoke and not torch.cuda.is_available():
        raise click.ClickException("there is no GPU; --smoke tries the benchmark out on the CPU")
    card = Card(torch.device("cpu") if smoke else torch.device("cuda", 0))
    with tempfile.TemporaryDirectory() as folder:
        write_configs(GEOMETRIES["tiny" if smoke else geometry], Path(folder))
        found = measured(card, Path(folder), SMOKE if smoke else FULL, not no_transformers)
    if file is not None:
        file.write_text(json.dumps(found, indent=1) + "\n")
    print("\n".join(table(found)))


def measured(card: Card, folder: Path, sizes: Sizes, compares: bool) -> dict[str, Any]:
    """Return every figure: seconds, bytes, rates and shares."""
    machine = card.machine()
    bench = Bench(card, read_configs(folder), sizes)
    found: dict[str, Any] = {
        "facts": card.facts(),
        "bounds": {"copied bytes per second": machine.read, "bf16 operations per second": machine.multiply},
        "memory": bench.memory(),
        "decode": {str(rows): _decode(bench, machine, rows) for rows in sizes.rows},
        "prefill": _prefill(bench, machine),
        "idle": bench.idle(min(16, max(sizes.rows))),
        "arrivals": bench.arrivals(),
        "stats": dict(bench.backend.stats()),
    }
    if compares:
        bench.backend.clear()
        del bench
        gc.collect()
        found["transformers"] = _compared(card, folder, sizes, found)
    return found


def _decode(bench: Bench, machine: Machine, rows: int) -> dict[str, float]:
    seconds = bench.decode(rows)
    bound = step_bytes(bench.model, rows, bench.sizes.context + bench.sizes.steps / 2) / machine.read
    return {"seconds": seconds, "share": bound / seconds}


def _prefill(bench: Bench, machine: Machine) -> dict[str, Any]:
    stages = bench.prefill()
    operations = prompt_operations(bench.model, bench.prompt_tokens) + bench.tiles * tile_operations(bench.model)
    bound = operations / machine.multiply
    return {"tokens": bench.prompt_tokens, "share": bound / stages["first token"], "seconds": stages}


def _compared(card: Card, folder: Path, sizes: Sizes, ours: Mapping[str, Any]) -> dict[str, Any]:
    generate = Generate(card, folder, sizes)
    seconds = {str(rows): generate.decode(rows) for rows in sizes.rows if rows <= sizes.requests}
    arrivals = generate.arrivals()
    return {
        "decode": seconds,
        "arrivals": arrivals,
        "is_compiled": generate.is_compiled,
        "ours is faster": {rows: taken / ours["decode"][rows]["seconds"] for rows, taken in seconds.items()},
        "ours is faster, arrivals": ours["arrivals"] / arrivals,
    }


def table(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines for people."""
    facts, bounds, memory = found["facts"], found["bounds"], found["memory"]
    yield ", ".join(f"{name} {value}" for name, value in facts.items())
    read, multiply = bounds.values()
    yield f"bounds: {read / 1e9:.0f} GB/s copied, {multiply / 1e12:.1f} TFLOP/s in bf16"
    for name in ("weights", "cache", "graphs"):
        yield f"{name}: {memory[name] / GIB:.3f} GiB, forecast {memory[f'{name}_forecast'] / GIB:.3f}"
    for rows, step in found["decode"].items():
        yield f"decode, {rows} rows: {1e3 * step['seconds']:.2f} ms, {step['share']:.0%} of the bound"
    prefill = found["prefill"]
    yield f"picture and question, {prefill['tokens']} tokens: {prefill['share']:.0%} of the bound"
    for stage, seconds in prefill["seconds"].items():
        yield f"  {stage}: {1e3 * seconds:.2f} ms"
    idle = found["idle"]
    yield "idle: not measured" if idle is None else f"idle in a decode step: {idle:.1%}"
    yield f"requests that arrive: {found['arrivals']:.0f} tokens/s"
    yield f"captures after the warm-up: {found['stats']['unknown_shapes']:.0f}"
    if "transformers" in found:
        other = found["transformers"]
        how = "compiled" if other["is_compiled"] else "not compiled"
        for rows, ratio in other["ours is faster"].items():
            milliseconds = 1e3 * other["decode"][rows]
            yield f"transformers ({how}), {rows} rows: {milliseconds:.2f} ms; ours {ratio:.2f} times as fast"
        ratio = other["ours is faster, arrivals"]
        yield f"transformers, requests that arrive: {other['arrivals']:.0f} tokens/s; ours {ratio:.2f} times as much"


def write_configs(geometry: Geometry, folder: Path) -> None:
    """Write what a model folder has beside its weights."""
    contents = {
        "config.json": config_json(geometry),
        "generation_config.json": generation_config_json(),
        "preprocessor_config.json": preprocessor_config_json(),
    }
    for name, content in contents.items():
        (folder / name).write_text(json.dumps(content))


if __name__ == "__main__":
    main()
