"""A plugin with an arithmetic backend that a test in another process stops and lets go on.

Each decode first reads one byte from the named pipe that the variable GATE names; at the pipe's end it reads none and
goes on. Install it with `install_plugin(folder, "piped", "support.piped")`.
"""

from __future__ import annotations

import os
from dataclasses import replace

from runtime import hookimpl
from runtime.backend import BackendSpec, DecodeBatch, DecodeOutput, Limits, ModelSpec
from support.arithmetic import SPEC, ArithmeticBackend


class PipedBackend(ArithmeticBackend):
    """Waits for a byte before each decode."""

    def __init__(self, vocabulary: int, limits: Limits) -> None:
        super().__init__(vocabulary, limits)
        self._gate = os.open(os.environ["GATE"], os.O_RDONLY)

    @hookimpl
    def decode(self, batch: DecodeBatch) -> DecodeOutput:
        os.read(self._gate, 1)
        return super().decode(batch)


def load(model: ModelSpec, limits: Limits) -> PipedBackend:
    """Open the pipe; whoever writes must have opened it before."""
    return PipedBackend(model.vocabulary, limits)


@hookimpl
def runtime_backends() -> list[BackendSpec]:
    return [replace(SPEC, name="piped", load=load)]
