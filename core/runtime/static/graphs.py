"""Computations of fixed shapes, prepared before the first request and only run after."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from runtime.errors import BackendError, UnplannedShape
from runtime.static.device import Device

log = logging.getLogger(__name__)

Inputs = Sequence[torch.Tensor]
Outputs = tuple[torch.Tensor, ...]
Function = Callable[..., Outputs]
"""Takes inputs on the device and answers tensors there.

It reads nothing back to the host and takes nothing from it, and what it writes to, beside its outputs, were there
before. It may be run any number of times with the same inputs.
"""


@dataclass(frozen=True, slots=True)
class Call:
    """A function, and what to give it this time."""

    key: Hashable
    """Says all that the function does not take from its inputs; shown in the log."""
    function: Function
    inputs: Inputs  # each of a shape and dtype that follow from the key; on the host or on the device


class GraphRunner(Protocol):
    """Runs functions as a device likes them: recorded, compiled or plainly. One device, its thread only."""

    def warm(self, key: Hashable, function: Function, inputs: Inputs) -> None:
        """Prepare a function of this key for inputs of these shapes and dtypes."""
        ...

    def run(self, key: Hashable, inputs: Inputs) -> Outputs:
        """Bring inputs to the device and run a prepared function on them.

        The outputs are valid until the next run of the same key, and nobody else writes to them.
        """
        ...

    def clear(self) -> None:
        """Forget every function, and give back the memory it held."""
        ...

    def stats(self) -> Mapping[str, float]:
        """Return counters, for metrics."""
        ...


class PlainRunner:
    """Runs every function as it is."""

    def __init__(self, device: Device) -> None:
        self._device = device.torch_device
        self._functions: dict[Hashable, Function] = {}
        self._runs = 0

    def warm(self, key: Hashable, function: Function, inputs: Inputs) -> None:
        self._functions[key] = function
        self._called(key, inputs)

    def run(self, key: Hashable, inputs: Inputs) -> Outputs:
        self._runs += 1
        return self._called(key, inputs)

    def clear(self) -> None:
        self._functions.clear()

    def stats(self) -> Mapping[str, float]:
        return {"graph_runs": self._runs}

    def _called(self, key: Hashable, inputs: Inputs) -> Outputs:
        return self._functions[key](*(tensor.to(self._device, non_blocking=True) for tensor in inputs))


class Graphs:
    """The functions of a backend; when sealed, one that was not prepared is a mistake."""

    def __init__(self, runner: GraphRunner, strict: bool) -> None:
        """With `strict` such a mistake is UnplannedShape, else it is counted and logged, and takes its time."""
        self._runner = runner
        self._strict = strict
        self._sealed = False
        self._forms: dict[Hashable, tuple[object, ...]] = {}
        self._unknown = 0

    def warm(self, call: Call) -> Outputs:
        """Prepare a function, and run it as it will be run in service."""
        self._runner.warm(call.key, call.function, call.inputs)
        self._forms[call.key] = _form(call)
        return self._runner.run(call.key, call.inputs)

    def run(self, call: Call) -> Outputs:
        """Run a function; prepare it first when that was not done yet."""
        known = self._forms.get(call.key)
        if known is None:
            return self._meet(call)
        if known != (form := _form(call)):  # a recorded function would take the wrong bytes, and no runner looks
            raise BackendError(f"{call.key} was prepared for {known} and is given {form}")
        return self._runner.run(call.key, call.inputs)

    def seal(self) -> None:
        """Every function is prepared from now on."""
        self._sealed = True

    def clear(self) -> None:
        """Forget every function."""
        self._runner.clear()
        self._forms.clear()

    def stats(self) -> Mapping[str, float]:
        """Return counters, those of the runner included."""
        return {"graphs": len(self._forms), "unknown_shapes": self._unknown, **self._runner.stats()}

    def _meet(self, call: Call) -> Outputs:
        if self._sealed:
            self._unknown += 1
            if self._strict:
                raise UnplannedShape(f"{call.key} was not prepared")
            log.warning("%s is not in the plan and is prepared in service; requests wait for it", call.key)
        return self.warm(call)


def _form(call: Call) -> tuple[object, ...]:
    return tuple((tuple(tensor.shape), tensor.dtype) for tensor in call.inputs)
