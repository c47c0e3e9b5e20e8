"""What a backend affords, and that it keeps to it."""

from __future__ import annotations

from typing import Final

from runtime.backend import Limits
from runtime.conformance.bench import Bench
from runtime.conformance.check import Failed, check
from runtime.conformance.loading import load
from runtime.conformance.prompts import text
from runtime.conformance.readings import paired, read

SMALL: Final = Limits(rows=1, context=64, prefill_rows=1, prefill_tokens=60)


@check(
    "load",
    "The bundled model loads and warms up, with all the rows and tokens that the kit asks for.",
    "A weight under a name that the loader does not know, or a device without memory.",
)
def it_loads(bench: Bench) -> str:
    limits = bench.load().limits
    return f"{limits.rows} rows of {limits.context} tokens"


@check(
    "capacity",
    "It claims no more rows and tokens than it was asked for.",
    "A capacity computed from the free memory alone: core would then lease slots that no plan has a shape for.",
)
def capacity_is_within_limits(bench: Bench) -> str:
    if bench.backend.overclaimed:
        raise Failed(bench.backend.overclaimed)
    capacity = bench.backend.capacity
    return f"{capacity.rows} rows of {capacity.context} tokens"


@check(
    "small-limits",
    "Loaded again for one row of 64 tokens, it claims no more and answers the same.",
    "Sizes of buffers that are constants, or state that two loaded models share.",
)
def it_fits_small_limits(bench: Bench) -> str:
    small = load(bench.found, bench.model, SMALL, bench.backend.limits.options)
    if small.overclaimed:
        raise Failed(small.overclaimed)
    case = bench.cast[0]
    return bench.same([(case, read(small.driver, {0: case})[0])])


@check(
    "full",
    "With every row as long as the context, all are right up to the last token.",
    "A buffer that is one token short, or positions beyond the longest prompt.",
)
def full_rows_are_right(bench: Bench) -> str:
    limits = bench.backend.limits
    steps = limits.context - limits.prefill_tokens
    prompts = [text(f"longest text in row {row}", limits.prefill_tokens, seed=20 + row) for row in range(limits.rows)]
    cases = {row: bench.oracle.follow(prompt, steps) for row, prompt in enumerate(prompts)}
    readings = read(bench.driver(), cases)
    return bench.right(paired(cases, readings))
