"""Readings: the scores after a prompt and after each token of a given reply, and how far two readings are apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch

from runtime.conformance.driver import Driver, Part
from runtime.conformance.prompts import Prompt

STEPS: Final = 6
"""Tokens of a reply."""


@dataclass(frozen=True, slots=True)
class Case:
    """A prompt with the oracle's reply, which every backend is made to give, so that one other token ends nothing."""

    prompt: Prompt
    reply: tuple[int, ...]
    truth: torch.Tensor  # float32 [len(reply) + 1, vocabulary], cpu; the oracle's reading


def follow(driver: Driver, prompt: Prompt, steps: int = STEPS) -> Case:
    """Return the case that a backend makes of a prompt: its greedy reply, and its own reading."""
    scores = [driver.prefill({0: Part.whole(prompt)})[0]]
    reply: list[int] = []
    for _ in range(steps):
        reply.append(int(scores[-1].argmax()))
        scores.append(driver.decode({0: reply[-1]})[0])
    driver.clear()
    return Case(prompt, tuple(reply), torch.stack(scores))


def wholes(cases: Mapping[int, Case]) -> dict[int, Part]:
    """Return the whole prompts of cases, by slot."""
    return {slot: Part.whole(case.prompt) for slot, case in cases.items()}


def paired(cases: Mapping[int, Case], readings: Mapping[int, torch.Tensor]) -> list[tuple[Case, torch.Tensor]]:
    """Return each case with the reading of its slot."""
    return [(case, readings[slot]) for slot, case in cases.items()]


def read(driver: Driver, cases: Mapping[int, Case]) -> dict[int, torch.Tensor]:
    """Begin the cases together, by slot, and go on with them in step; return their readings and end them."""
    readings = go_on(driver, cases, driver.prefill(wholes(cases)))
    driver.release(cases)
    return readings


def go_on(driver: Driver, cases: Mapping[int, Case], first: Mapping[int, torch.Tensor]) -> dict[int, torch.Tensor]:
    """Give every slot its case's reply, all in step; return the readings that begin with the scores of `first`."""
    scores = {slot: [first[slot]] for slot in cases}
    for step in range(max(len(case.reply) for case in cases.values())):
        tokens = {slot: case.reply[step] for slot, case in cases.items() if step < len(case.reply)}
        for slot, row in driver.decode(tokens).items():
            scores[slot].append(row)
    return {slot: torch.stack(rows) for slot, rows in scores.items()}


def deviations(got: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Return by step the root mean square of the difference, in standard deviations of what is `wanted`.

    Both are float32 [steps, vocabulary]. Infinite where something is no number.
    """
    apart = (got - wanted).square().mean(-1).sqrt() / wanted.std(-1)
    return apart.nan_to_num(float("inf"), float("inf"))
