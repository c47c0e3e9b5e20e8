"""Prompts that come in parts, and beginnings that a slot holds already; for a backend whose capacity says `resumes`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch

from runtime.conformance.bench import Bench
from runtime.conformance.check import NotApplicable, check
from runtime.conformance.driver import Part
from runtime.conformance.prompts import Prompt, text
from runtime.conformance.readings import go_on, paired


@check(
    "parts",
    "A prompt that is computed in parts, with other rows' steps between them, is the same as one computed whole.",
    "Offsets that are ignored: positions that begin again, or a mask that hides what the slot holds.",
)
def parts_are_the_whole(bench: Bench) -> str:
    _check_resumes(bench)
    pairs = []
    for case in bench.cast[1:]:
        for cuts in _cuts(case.prompt):
            driver, other = bench.driver(), bench.cast[0]
            first = driver.prefill({0: Part.whole(other.prompt)})
            scores, replies = [first[0]], iter(other.reply)
            for start, stop in pairwise((0, *cuts, len(case.prompt))):
                first |= driver.prefill({2: Part(case.prompt, start, stop)})
                scores.append(driver.decode({0: next(replies)})[0])
            readings = go_on(driver, {2: case}, first)
            pairs += [(case, readings[2]), (other, torch.stack(scores))]
    return bench.same(pairs)


@check(
    "parts-together",
    "Prompts of which unlike parts are held already can be continued together.",
    "One offset for all rows of a batch.",
)
def parts_go_together(bench: Bench) -> str:
    _check_resumes(bench)
    _, long, picture, pictures = bench.cast
    driver, cases = bench.driver(), {3: long, 0: pictures, 1: picture}
    held = {3: 90, 0: pictures.prompt.places[0].stop, 1: picture.prompt.places[0].start}
    driver.prefill({slot: Part(case.prompt, 0, held[slot]) for slot, case in cases.items()})
    first = driver.prefill({slot: Part(case.prompt, held[slot], len(case.prompt)) for slot, case in cases.items()})
    readings = go_on(driver, cases, first)
    return bench.same(paired(cases, readings))


@check(
    "kept",
    "A slot keeps what it holds after its release, so that a prompt that begins alike is computed from there.",
    "A release that clears the slot, or a prefill of padding rows that writes to it.",
)
def released_slots_keep_their_rows(bench: Bench) -> str:
    _check_resumes(bench)
    short, long, picture, _ = bench.cast
    pairs = []
    for before, length in ((long, 70), (picture, picture.prompt.places[0].stop)):
        shared = slice(0, length)
        rest = text("", 40, seed=80).tokens
        prompt = Prompt(
            f"{before.prompt.name} with another end",
            (*before.prompt.tokens[shared], *rest),
            before.prompt.images,
            before.prompt.places,
        )
        case, driver = bench.oracle.follow(prompt), bench.driver()
        driver.prefill({2: Part.whole(before.prompt)})
        driver.decode({2: before.reply[0]})
        driver.release([2])
        driver.prefill({0: Part.whole(short.prompt)})
        driver.decode({0: short.reply[0]})
        pairs.append((case, go_on(driver, {2: case}, driver.prefill({2: Part(prompt, length, len(prompt))}))[2]))
    return bench.right(pairs)


def _check_resumes(bench: Bench) -> None:
    if not bench.backend.capacity.resumes:
        raise NotApplicable("its capacity does not say `resumes`")


def _cuts(prompt: Prompt) -> Iterator[tuple[int, ...]]:
    """Yield where a prompt is cut: early and late, twice, and right before and behind its pictures."""
    length = len(prompt)
    if prompt.places:
        yield tuple(place.start for place in prompt.places)
        yield tuple(place.stop for place in prompt.places)
    else:
        yield from ((1,), (length - 1,), (length // 3, 2 * length // 3))
