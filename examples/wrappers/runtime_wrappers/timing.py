"""How long each hook takes, told with the backend's own counters on `/metrics`."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping

from runtime import hookimpl
from runtime.backend import DecodeOutput, Limits, ModelSpec, PrefillOutput


class Timing:
    """Counts calls and seconds.

    A backend that answers before its device is done (`Capacity.asynchronous`) is measured until it answers.
    """

    def __init__(self, model: ModelSpec, limits: Limits) -> None:  # noqa: ARG002  # every wrapper is made like this
        self._told = {"prefill_calls": 0.0, "prefill_seconds": 0.0, "decode_calls": 0.0, "decode_seconds": 0.0}

    @hookimpl(wrapper=True)
    def prefill(self) -> Generator[None, PrefillOutput, PrefillOutput]:
        started = time.perf_counter()
        output = yield  # here the backend runs
        self._count("prefill", started)
        return output

    @hookimpl(wrapper=True)
    def decode(self) -> Generator[None, DecodeOutput, DecodeOutput]:
        started = time.perf_counter()
        output = yield
        self._count("decode", started)
        return output

    @hookimpl(wrapper=True)
    def stats(self) -> Generator[None, Mapping[str, float] | None, Mapping[str, float]]:
        told = yield  # None from a backend that has none
        return {**(told or {}), **self._told}

    def _count(self, hook: str, started: float) -> None:
        self._told[f"{hook}_calls"] += 1
        self._told[f"{hook}_seconds"] += time.perf_counter() - started
