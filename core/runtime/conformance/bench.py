"""What every check works with: the backend, the oracle, and how to hold them against each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Final

import torch

from runtime.backend import ModelSpec
from runtime.conformance.check import Failed
from runtime.conformance.driver import Driver, Part
from runtime.conformance.loading import LIMITS, Loaded, load
from runtime.conformance.oracle import Oracle, Tolerance
from runtime.conformance.readings import Case, deviations, read
from runtime.knobs import Value
from runtime.plugins import FoundBackend

ENOUGH: Final = 20
"""Steps that have a mean worth comparing."""
REQUESTS: Final = 500
"""Of the check that memory is flat."""


class NotLoaded(Exception):
    """The backend could not be loaded, so that a check cannot run."""


class Bench:
    """One backend under test; one thread."""

    def __init__(
        self,
        found: FoundBackend,
        model: ModelSpec,
        oracle: Oracle,
        options: Mapping[str, Value] | None = None,
        requests: int = REQUESTS,
    ) -> None:
        """`options` are the backend's; those not given have their defaults."""
        self.found = found
        self.model = model
        self.oracle = oracle
        self.options = {knob.name: knob.default for knob in found.options} | dict(options or {})
        self.requests = requests
        self.loaded: Loaded | None = None
        """None until it is loaded, and when it cannot be."""
        self._tried = False

    def load(self) -> Loaded:
        """Load the backend for all the checks that follow; raises what it raises."""
        self._tried = True
        self.loaded = load(self.found, self.model, LIMITS, self.options)
        return self.loaded

    @property
    def backend(self) -> Loaded:
        """The loaded backend; raises NotLoaded when it could not be loaded before."""
        if self.loaded is None and self._tried:
            raise NotLoaded("the backend did not load")
        return self.loaded or self.load()

    def driver(self) -> Driver:
        """Return the backend's driver, with every slot free."""
        self.backend.driver.clear()
        return self.backend.driver

    @property
    def cast(self) -> list[Case]:
        """The four cases that many checks use: short text, long text, one picture, two pictures."""
        return list(self.oracle.cast.values())

    @cached_property
    def own(self) -> Mapping[str, torch.Tensor]:
        """The backend's own readings of the cast, by name: each case alone, and the first in its slot."""
        driver = self.driver()
        return {case.prompt.name: read(driver, {slot: case})[slot] for slot, case in enumerate(self.cast)}

    @cached_property
    def dtype(self) -> torch.dtype:
        """What the backend computes in: as the details of its capacity tell, else the type of its scores."""
        told = getattr(torch, self.backend.capacity.details.get("compute_dtype", ""), None)
        if isinstance(told, torch.dtype):
            return told
        driver = self.driver()
        return driver.hooks.prefill(driver.batch({0: Part.whole(self.cast[0].prompt)})).logits.dtype

    @cached_property
    def tolerance(self) -> Tolerance:
        """How far scores may be apart."""
        return self.oracle.tolerance(self.dtype)

    def same(self, readings: Iterable[tuple[Case, torch.Tensor]]) -> str:
        """Compare readings with the backend's own of the same cases, each alone; raises Failed."""
        return self._compared([(case.prompt.name, got, self.own[case.prompt.name]) for case, got in readings], "alone")

    def right(self, readings: Iterable[tuple[Case, torch.Tensor]]) -> str:
        """Compare readings with the oracle's; raises Failed."""
        return self._compared([(case.prompt.name, got, case.truth) for case, got in readings], "the oracle")

    def _compared(self, pairs: Sequence[tuple[str, torch.Tensor, torch.Tensor]], with_what: str) -> str:
        allowed, dtype = self.tolerance, str(self.dtype).removeprefix("torch.")
        every = [(name, deviations(got, wanted[: len(got)])) for name, got, wanted in pairs]
        for name, apart in every:
            step = int(apart.argmax())
            if apart[step] > allowed.each:
                place = "after the prompt" if step == 0 else f"after {step} tokens of the reply"
                raise Failed(
                    f"{name}, {place}: {float(apart[step]):.2g} standard deviations from {with_what}; rounding to "
                    f"{dtype} explains {allowed.each:.2g}"
                )
        steps = torch.cat([apart for _, apart in every])
        mean = float(steps.mean())
        if len(steps) >= ENOUGH and mean > allowed.mean:
            raise Failed(
                f"on average {mean:.2g} standard deviations from {with_what}; rounding to {dtype} explains "
                f"{allowed.mean:.2g}"
            )
        return f"at most {float(steps.max()):.2g} of {allowed.each:.2g}"
