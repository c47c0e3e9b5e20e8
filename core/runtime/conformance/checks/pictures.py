"""Pictures of any number and shape, against the oracle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from runtime.conformance.bench import Bench
from runtime.conformance.check import check
from runtime.conformance.prompts import Size, shown
from runtime.conformance.readings import read

PLAIN: Final[tuple[Size, ...]] = ((50, 60), (112, 112), (30, 56))
PAIRS: Final[tuple[tuple[Size, Size], ...]] = (((20, 200), (56, 30)), ((56, 30), (20, 200)), ((50, 60), (50, 60)))
ODD: Final[tuple[Size, ...]] = ((20, 200), (200, 20), (9, 170), (101, 33), (1, 1), (57, 111))
"""Thin and tall, one dot, and sides that no tile divides."""


@check(
    "one-picture",
    "A prompt with a picture gets the oracle's scores.",
    "Features of the wrong layer, the class token left in, or a newline feature left out.",
)
def one_picture(bench: Bench) -> str:
    return _right(bench, [[size] for size in PLAIN])


@check(
    "two-pictures",
    "Of several pictures each stands where its placeholders are.",
    "Features laid in the order in which they were encoded, or tiles split evenly among the pictures.",
)
def two_pictures(bench: Bench) -> str:
    return _right(bench, PAIRS)


@check(
    "odd-pictures",
    "Pictures of odd ratios get the oracle's scores.",
    "Height and width exchanged, or a rounding of the unpadded grid that is not transformers'.",
)
def odd_pictures(bench: Bench) -> str:
    return _right(bench, [[size] for size in ODD])


@check(
    "picture-again",
    "A picture that was seen before, and another one of its size, are each computed as themselves.",
    "A cache of features whose key is the size or the place of a picture and not its digest.",
)
def pictures_are_told_apart(bench: Bench) -> str:
    return _right(bench, [[(50, 60)]] * 2, seeds=(70, 71, 70))


def _right(bench: Bench, prompts: Sequence[Sequence[Size]], seeds: Sequence[int] = (60,)) -> str:
    """Hold prompts of pictures against the oracle, each with the pixels of each seed in turn."""
    pairs = []
    for seed in seeds:
        for sizes in prompts:
            name = " and ".join(f"{height} x {width}" for height, width in sizes)
            case = bench.oracle.follow(shown(f"picture of {name} pixels", sizes, bench.model, seed), steps=1)
            pairs.append((case, read(bench.driver(), {1: case})[1]))
    return bench.right(pairs)
