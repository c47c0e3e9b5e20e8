"""What goes wrong ends in an error that core understands, and the backend serves on."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from safetensors.torch import load_file, save_file

from runtime.backend import ModelSpec
from runtime.conformance.bench import Bench
from runtime.conformance.check import Failed, check
from runtime.conformance.driver import Part
from runtime.conformance.prompts import Prompt
from runtime.conformance.readings import read
from runtime.errors import BackendError

WEIGHTS: Final = "model.safetensors"


@check(
    "refuses-broken-model",
    "A model that lacks a weight, or has one of another size, is refused when it is loaded.",
    "Weights loaded loosely, with what is missing left at random: the server would start, and talk nonsense.",
)
def broken_models_are_refused(bench: Bench) -> str:
    spec = bench.found.spec
    assert spec is not None
    limits = replace(bench.backend.limits, options=bench.options)
    refusals: list[str] = []
    for fault in ("lacks a weight", "has a weight of another size"):
        with _broken(bench.model, fault) as model:
            try:
                spec.load(model, limits)
            except Exception as error:
                refusals.append(type(error).__name__)
            else:
                raise Failed(f"a model that {fault} was loaded")
    return " and ".join(refusals)


@check(
    "errors",
    "A batch that breaks the contract ends in an ordinary exception or in an answer, and the next batches are right.",
    "An exit of the process, an exception that is no Exception, or a device that is not usable any more.",
)
def errors_are_typed(bench: Bench) -> str:
    case = bench.oracle.cast["one picture"]
    prompt, (place,) = case.prompt, case.prompt.places
    shortened = prompt.tokens[: place.stop - 1] + prompt.tokens[place.stop :]
    fewer = Prompt("a placeholder too few", shortened, prompt.images, (slice(place.start, place.stop - 1),))
    none = replace(prompt, name="placeholders without a picture", images=None, places=())
    seen = []
    for wrong in (fewer, none):
        driver = bench.driver()
        try:
            driver.prefill({0: Part.whole(wrong)}, placed=())
            seen.append("an answer")
        except BackendError:
            seen.append("an error")
        driver.release([0])
        bench.same([(case, read(driver, {0: case})[0])])
    return ", ".join(seen)


@contextmanager
def _broken(model: ModelSpec, fault: str) -> Iterator[ModelSpec]:
    """Write a copy of a model with this fault in one weight, for as long as this is entered."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        shutil.copytree(model.path, path)
        weights = load_file(path / WEIGHTS)
        name = next(name for name in sorted(weights) if name.endswith("mlp.gate_proj.weight"))
        weight = weights.pop(name)
        if fault != "lacks a weight":
            weights[name] = weight[:-1].contiguous()
        save_file(weights, path / WEIGHTS, metadata={"format": "pt"})
        yield replace(model, path=path)
