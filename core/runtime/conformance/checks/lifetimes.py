"""Rows begin, end and are given up, and nothing is left of them."""

from __future__ import annotations

from typing import Final

from runtime.conformance.bench import Bench
from runtime.conformance.check import check
from runtime.conformance.driver import Part
from runtime.conformance.readings import go_on, paired, read, wholes

GIVEN_UP: Final = 24
"""Prefills that are given up one after the other: more than any sensible number of buffers."""


@check(
    "slot-memory",
    "A slot that is used again remembers nothing of the row before.",
    "A mask or a length that is left from the longer row, or what is added to a cache in place of being written.",
)
def slots_remember_nothing(bench: Bench) -> str:
    short, long, picture, pictures = bench.cast
    pairs = []
    for before, after in ((pictures, short), (long, picture), (picture, long), (short, pictures), (long, short)):
        driver = bench.driver()
        read(driver, {1: before})
        pairs.append((after, read(driver, {1: after})[1]))
    return bench.same(pairs)


@check(
    "cancelled-prefill",
    "Prefills whose rows are never placed, some or all of them, hold nothing up and change no other row.",
    "A buffer that only `concatenate` gives back: a client that hangs up early would leak it.",
)
def prefills_may_be_given_up(bench: Bench) -> str:
    short, long, picture, pictures = bench.cast
    driver = bench.driver()
    first = driver.prefill({0: Part.whole(long.prompt)})
    for _ in range(GIVEN_UP):
        driver.prefill({1: Part.whole(picture.prompt), 2: Part.whole(short.prompt)}, placed=())
        driver.release([1, 2])
    first |= driver.prefill({1: Part.whole(short.prompt), 2: Part.whole(picture.prompt)}, placed=[2])
    driver.release([1])
    first |= driver.prefill({1: Part.whole(pictures.prompt)})
    cases = {0: long, 1: pictures, 2: picture}
    readings = go_on(driver, cases, first)
    return bench.same(paired(cases, readings))


@check(
    "cancelled-row",
    "A row that is released midway leaves the others as they are, and its slot free for the next.",
    "A release that compacts the batch, or clears more than the row it names.",
)
def rows_may_be_released_midway(bench: Bench) -> str:
    short, long, picture, pictures = bench.cast
    driver = bench.driver()
    first = driver.prefill(wholes(dict(enumerate((long, pictures, picture)))))
    driver.decode({1: pictures.reply[0]})
    driver.release([1])
    first |= driver.prefill({1: Part.whole(short.prompt)})
    cases = {0: long, 1: short, 2: picture}
    readings = go_on(driver, cases, first)
    return bench.same(paired(cases, readings))
