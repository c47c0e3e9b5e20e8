"""The truth: `cpu_reference` in float32, and how much it changes when it computes in another type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch

from runtime.backend import Limits, ModelSpec
from runtime.batches import AnyShapes
from runtime.conformance.driver import Driver, Part
from runtime.conformance.prompts import Prompt, shown, text
from runtime.conformance.readings import STEPS, Case, deviations, follow, read
from runtime.plugins import Hooks, backend_named

ORACLE: Final = "cpu_reference"
DTYPE: Final = "reference_dtype"
"""Its option."""
MULTIPLE: Final = 2
"""How many times the oracle's own rounding noise a backend may deviate: it rounds in other places."""
SUMMATION: Final = 1e-4
"""Deviation that another order of summation makes in float32; about fifty times what is seen on a CPU."""
LONG_REPLY: Final = 24


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far scores may be from what they should be, in standard deviations."""

    each: float
    """After any step."""
    mean: float
    """Over many."""


class Oracle:
    """Loads once, for any number of backends; computes every prompt whole and alone."""

    def __init__(self, model: ModelSpec, limits: Limits) -> None:
        """Raises BackendRefused when the oracle is not installed."""
        self._model = model
        self._limits = limits
        self._driver = self._loaded(torch.float32)
        self._tolerances: dict[torch.dtype, Tolerance] = {}
        self.cast: Mapping[str, Case] = {prompt.name: self.follow(prompt) for prompt in _cast(model)}
        """Four cases of unlike lengths, that many checks use."""
        longer = [text(f"text of {length} tokens", length, seed=40 + length) for length in (33, 65, 120)]
        self.replies: Sequence[Case] = (*self.cast.values(), *(self.follow(prompt, LONG_REPLY) for prompt in longer))
        """These, and some with longer replies: enough steps for a mean."""

    def follow(self, prompt: Prompt, steps: int = STEPS) -> Case:
        """Return the case of a prompt."""
        return follow(self._driver, prompt, steps)

    def prompt_logprobs(self, prompt: Prompt) -> torch.Tensor:
        """Return the log-probability of each token of a prompt but the first, given those before it."""
        told = self._driver.hooks.prefill(self._driver.batch({0: Part.whole(prompt)}, prompt_logprobs=True))
        assert told.prompt_logprobs is not None
        return told.prompt_logprobs[0, 1:]

    def tolerance(self, dtype: torch.dtype) -> Tolerance:
        """Return how far a backend that computes in `dtype` may deviate: by the oracle's own noise in it, measured."""
        if dtype not in self._tolerances:
            driver = self._loaded(dtype)
            noise = torch.cat([deviations(read(driver, {0: case})[0], case.truth) for case in self.replies])
            each, mean = (max(SUMMATION, MULTIPLE * float(size)) for size in (noise.max(), noise.mean()))
            self._tolerances[dtype] = Tolerance(each, mean)
        return self._tolerances[dtype]

    def _loaded(self, dtype: torch.dtype) -> Driver:
        spec = backend_named(ORACLE).spec
        assert spec is not None
        limits = replace(self._limits, options={DTYPE: str(dtype).removeprefix("torch.")})
        return Driver(Hooks(ORACLE, spec.load(self._model, limits), self._model, limits), AnyShapes(limits), 1)


def _cast(model: ModelSpec) -> tuple[Prompt, ...]:
    return (
        text("short text", 5, seed=1),
        text("long text", 150, seed=2),
        shown("one picture", [(50, 60)], model, seed=3),
        shown("two pictures", [(20, 200), (56, 30)], model, seed=4),
    )
