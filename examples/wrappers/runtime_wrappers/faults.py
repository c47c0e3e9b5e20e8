"""Failures on purpose, to see what clients and dashboards make of them."""

from __future__ import annotations

import os
from collections.abc import Generator
from dataclasses import replace
from typing import Final

import torch
from runtime import hookimpl
from runtime.backend import DecodeBatch, DecodeOutput, Limits, ModelSpec

EVERY: Final = "FAULTS_EVERY"
"""Variable: of this many decode steps one fails."""


class Faults:
    """Each N-th decode step fails, by turns with an error and with scores that are no numbers.

    The first fails every request of the step, the second that of the first active row; both with status 424.
    """

    def __init__(self, model: ModelSpec, limits: Limits) -> None:  # noqa: ARG002  # every wrapper is made like this
        self._every = int(os.environ.get(EVERY, "100"))
        if self._every < 1:
            raise ValueError(f"{EVERY} is {self._every}; it must be 1 or more")
        self._steps = 0

    @hookimpl(wrapper=True)
    def decode(self, batch: DecodeBatch) -> Generator[None, DecodeOutput, DecodeOutput]:
        self._steps += 1
        faults, left = divmod(self._steps, self._every)
        if left == 0 and faults % 2 == 1:
            raise RuntimeError("a fault was injected")  # the backend is not asked
        output = yield
        if left > 0:
            return output
        row = int(batch.active.nonzero()[0])
        logits = output.logits.clone()  # the backend's tensor may be a buffer that it goes on using
        logits[row] = torch.nan
        return replace(output, logits=logits)
