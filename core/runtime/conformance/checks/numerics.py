"""The same numbers as the oracle's, but for rounding."""

from __future__ import annotations

from typing import Final

from runtime.conformance.bench import Bench
from runtime.conformance.check import check
from runtime.conformance.prompts import text
from runtime.conformance.readings import read

LENGTHS: Final = (1, 2, 17, 64, 65, 255, 380)


@check(
    "prefill-numerics",
    "Prompts of any length get the oracle's scores; in float32 its greedy token with them.",
    "Another base of the rotary embedding, exchanged heads, or a norm whose sums are not in float32.",
)
def prompts_are_right(bench: Bench) -> str:
    cases = [bench.oracle.follow(text(f"text of {length} tokens", length, seed=40), steps=0) for length in LENGTHS]
    return bench.right((case, read(bench.driver(), {0: case})[0]) for case in cases)


@check(
    "decode-numerics",
    "Replies get the oracle's scores, token by token, and on average as exactly as it computes in the same type.",
    "Positions that are off by one after the prompt, or sums and a cache in a smaller type than the rest.",
)
def replies_are_right(bench: Bench) -> str:
    readings = [(case, read(bench.driver(), {2: case})[2]) for case in bench.oracle.replies]
    return bench.right(readings)
