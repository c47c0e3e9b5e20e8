"""A row's answers are its own: whoever else is there, wherever it lies, however it is padded, in whatever order."""

from __future__ import annotations

from typing import Final

import torch

from runtime.conformance.bench import Bench
from runtime.conformance.check import check
from runtime.conformance.driver import Part
from runtime.conformance.prompts import text
from runtime.conformance.readings import go_on, paired, read, wholes

OTHER_PADDING: Final = 17
"""A token like any other."""


@check(
    "neighbours",
    "A row's answers do not depend on the other rows of its prefills and decode steps.",
    "Attention across the rows of a batch, or one scale or index for all of them.",
)
def neighbours_do_not_matter(bench: Bench) -> str:
    short, long, picture, pictures = bench.cast
    pairs = []
    for together in ((short, long, picture), (pictures, long, short), (pictures, picture, short, long)):
        cases = dict(enumerate(together))
        readings = read(bench.driver(), cases)
        pairs += paired(cases, readings)
    return bench.same(pairs)


@check(
    "slots",
    "A row's answers do not depend on the slot it lies in.",
    "The row of a batch taken for the slot, or a slot's stride computed from the wrong size.",
)
def slots_do_not_matter(bench: Bench) -> str:
    rows = bench.backend.limits.rows
    placed = [(slot, case) for case in bench.cast for slot in range(rows)]
    return bench.same((case, read(bench.driver(), {slot: case})[slot]) for slot, case in placed)


@check(
    "padding",
    "What fills the unused places of a prefill, and how many there are, does not matter.",
    "Padding that is attended to, or the last place taken for the last token.",
)
def padding_does_not_matter(bench: Bench) -> str:
    pairs = []
    for case in bench.cast:
        longest = text("longest text", bench.backend.limits.prefill_tokens, seed=30)
        for padding in (0, OTHER_PADDING):
            driver = bench.driver()
            batch = driver.batch({2: Part.whole(case.prompt), 1: Part.whole(longest)}, padding)
            scores = driver.hooks.prefill(batch).logits[0].float().cpu().clone()
            pairs.append((case, scores.unsqueeze(0)))
            driver.hooks.release([1, 2])
    return bench.same(pairs)


@check(
    "shapes",
    "A row's answers do not depend on how many slots and how long a context a decode step is computed over.",
    "A mask made for the longest row, or scores taken from the padded rows.",
)
def shapes_do_not_matter(bench: Bench) -> str:
    limits = bench.backend.limits
    last, longest = limits.rows - 1, text("longest text", limits.prefill_tokens - 8, seed=31)
    pairs = []
    for case in bench.cast:
        driver = bench.driver()
        driver.prefill({last: Part.whole(longest)})
        first = driver.prefill({0: Part.whole(case.prompt)})
        after = [driver.decode({0: token, last: OTHER_PADDING})[0] for token in case.reply]
        pairs.append((case, torch.stack([first[0], *after])))
    return bench.same(pairs)


@check(
    "order",
    "The order of the rows in a prefill, of their placements and of the requests does not matter.",
    "Rows sorted by length and never put back, or placements taken to be in the order of the rows.",
)
def order_does_not_matter(bench: Bench) -> str:
    short, long, picture, pictures = bench.cast
    pairs = []
    for cases in ({2: picture, 0: short, 1: long}, {1: long, 3: short, 0: pictures}, {0: short, 3: pictures, 2: long}):
        driver = bench.driver()
        first = driver.prefill(wholes(cases), backwards=True)
        readings = go_on(driver, cases, first)
        pairs += paired(cases, readings)
    return bench.same(pairs)


@check(
    "inactive-rows",
    "A row that is not active in a decode step, or not of a prefill, is as it was.",
    "A cache that is written at position 0 of every row that has nothing to append.",
)
def inactive_rows_do_not_change(bench: Bench) -> str:
    short, long, picture, pictures = bench.cast
    driver = bench.driver()
    cases = {0: long, 1: picture, 3: short}
    first = driver.prefill(wholes(cases))
    late = driver.prefill({2: Part.whole(pictures.prompt)})
    readings: dict[int, torch.Tensor] = {}
    for slot, case in ((3, short), (2, pictures), (0, long), (1, picture)):
        readings |= go_on(driver, {slot: case}, {**first, **late})
    return bench.same(paired({**cases, 2: pictures}, readings))
