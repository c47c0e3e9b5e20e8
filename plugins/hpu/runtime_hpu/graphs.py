"""Functions of fixed shapes as each mode runs them.

In lazy mode a graph is recorded by the vendor's wrapper, which everybody who serves on this device uses, rather than by
its bare `HPUGraph`. The wrapper finds graphs by a hash that knows no dtype and takes Python's values for their hashes;
so each function has a wrapped module of its own, with one graph, and the toolkit checks what it is given.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Hashable, Mapping
from types import FunctionType
from typing import Any, Protocol

import torch
from runtime.backend import PrefillShape
from runtime.static.graphs import Function, Inputs, Outputs

from runtime_hpu.environment import Mode


class Prepared(Protocol):
    """A function that is run as a mode runs it; the first run prepares it."""

    def __call__(self, *inputs: torch.Tensor) -> Outputs:
        """Run on inputs that are on the device."""
        ...

    def clear(self) -> None:
        """Give back what was prepared."""
        ...


class Plain:
    """Operator by operator."""

    def __init__(self, function: Function) -> None:
        self._function = function

    def __call__(self, *inputs: torch.Tensor) -> Outputs:
        return self._function(*inputs)

    def clear(self) -> None:
        """Nothing was prepared."""


class Accumulated(Plain):
    """In lazy mode: a list of operators of its own, so that it is the same list each time and compiled once."""

    def __init__(self, function: Function) -> None:
        import habana_frameworks.torch.core as htcore

        super().__init__(function)
        self._cut = htcore.mark_step

    def __call__(self, *inputs: torch.Tensor) -> Outputs:
        self._cut()
        outputs = super().__call__(*inputs)
        self._cut()
        return outputs


class Recorded:
    """In lazy mode: an HPU graph. Its inputs are the tensors of the first run, which are overwritten in every other."""

    def __init__(self, function: Function) -> None:
        import habana_frameworks.torch as htorch
        import habana_frameworks.torch.core as htcore

        self._cut = htcore.mark_step
        self._module: Any = htorch.hpu.wrap_in_hpu_graph(_Module(function))
        self._is_recorded = False

    def __call__(self, *inputs: torch.Tensor) -> Outputs:
        self._cut()  # what came before is not to be compiled together with the copies of these inputs
        if not self._is_recorded:
            self._is_recorded, inputs = True, tuple(tensor.clone() for tensor in inputs)
        outputs: Outputs = self._module(*inputs)
        return outputs

    def clear(self) -> None:
        self._module.clear_cache()


class Compiled(Plain):
    """Out of lazy mode: compiled as one graph."""

    def __init__(self, function: Function) -> None:
        compiled = torch.compile(_apart(function), backend="hpu_backend", fullgraph=True, dynamic=False)
        super().__init__(compiled)


class HpuRunner:
    """The runner of the backend; see `runtime.static.graphs.GraphRunner`."""

    def __init__(self, device: torch.device, mode: Mode, records: bool, records_prefills: bool) -> None:
        """Without `records` every function runs plainly, without `records_prefills` those of prefills do."""
        self._device = device
        self._mode = mode
        self._records = records and mode is not Mode.EAGER
        self._records_prefills = records_prefills
        self._functions: dict[Hashable, Prepared] = {}
        self._runs = 0

    def warm(self, key: Hashable, function: Function, inputs: Inputs) -> None:
        self._functions[key] = self._way(key)(function)
        self._called(key, inputs)

    def run(self, key: Hashable, inputs: Inputs) -> Outputs:
        self._runs += 1
        return self._called(key, inputs)

    def clear(self) -> None:
        for function in self._functions.values():
            function.clear()
        self._functions.clear()
        gc.collect()  # a wrapped module refers to itself

    def stats(self) -> Mapping[str, float]:
        plain = sum(isinstance(function, Plain) for function in self._functions.values())
        return {"graph_runs": self._runs, "plain_functions": plain, **_counts()}

    def _way(self, key: Hashable) -> Callable[[Function], Prepared]:
        if self._records and (self._records_prefills or not isinstance(key, PrefillShape)):
            return Recorded if self._mode is Mode.LAZY else Compiled
        return Accumulated if self._mode is Mode.LAZY else Plain

    def _called(self, key: Hashable, inputs: Inputs) -> Outputs:
        # Host memory is pageable, and nobody keeps it until a copy that does not block is done.
        return self._functions[key](*(tensor.to(self._device) for tensor in inputs))


class _Module(torch.nn.Module):
    """What the wrapper takes."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self._function = function

    def forward(self, *inputs: torch.Tensor) -> Outputs:
        return self._function(*inputs)


def _apart(function: Function) -> Function:
    """Return the function with code of its own: the compiler looks through all it has compiled of the same code."""

    def call(*inputs: torch.Tensor) -> Outputs:
        return function(*inputs)

    return FunctionType(call.__code__.replace(), call.__globals__, closure=call.__closure__)


def _counts() -> Mapping[str, float]:
    """Return how often the bridge has compiled, and computed on the host what the device cannot, since its start."""
    from habana_frameworks.torch.hpu.metrics import metric_global

    names = {"device_compilations": "graph_compilation", "cpu_fallbacks": "cpu_fallback"}
    return {ours: dict(metric_global(theirs).stats())["TotalNumber"] for ours, theirs in names.items()}
