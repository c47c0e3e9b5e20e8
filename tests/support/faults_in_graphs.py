"""Mistakes in reading what a recorded graph computed."""

from __future__ import annotations

from typing import Any

import pytest
from runtime.backend import DecodeShape, PrefillShape, VisionShape
from runtime.static.graphs import Inputs, Outputs, PlainRunner

Patch = pytest.MonkeyPatch
RUNNER: dict[str, type[PlainRunner]] = {"in use": PlainRunner}
"""For a fault to replace."""


class StaleDecode(PlainRunner):
    """Answers with what the run before has answered."""

    kind: type = DecodeShape

    def run(self, key: Any, inputs: Inputs) -> Outputs:
        fresh = tuple(each.clone() for each in super().run(key, inputs))
        held: dict[Any, Outputs] = self.__dict__.setdefault("held", {})
        stale = held.get(key, fresh)
        held[key] = fresh
        return stale if isinstance(key, self.kind) else fresh


class StalePrefill(StaleDecode):
    kind = PrefillShape


class StalePicture(StaleDecode):
    kind = VisionShape


def stale_decode(patch: Patch) -> None:
    """Scores of a decode step read from a graph's output before it has run."""
    patch.setitem(RUNNER, "in use", StaleDecode)


def stale_prefill(patch: Patch) -> None:
    """Scores of a prefill read from a graph's output before it has run."""
    patch.setitem(RUNNER, "in use", StalePrefill)


def stale_picture(patch: Patch) -> None:
    """Features of a picture read from a graph's output before it has run."""
    patch.setitem(RUNNER, "in use", StalePicture)
