"""A runner as strict as a device's graphs: records every operator once, and replays them without running Python.

So whatever a function took from Python while it was recorded is frozen: a number of the batch, a shape, a branch. Reads
of a tensor's values are refused. Inputs and outputs hold nonsense between two runs, so what is kept longer shows.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from runtime.static.graphs import Function, Inputs, Outputs
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

aten: Final = torch.ops.aten
HOST_READS: Final = {
    aten._local_scalar_dense.default,
    aten.item.default,
    aten.is_nonzero.default,
    aten.equal.default,
    aten.nonzero.default,
    aten.masked_select.default,
    aten._unique2.default,
}
"""What needs a value, or makes a shape of it."""
HOST_DATA: Final = {aten.lift_fresh.default, aten.lift_fresh_copy.default}
"""What `torch.tensor` makes of Python's numbers."""


class NotRecordable(Exception):
    """A function did what no recorded graph can repeat."""


@dataclass(frozen=True)
class Made:
    """A tensor that is an input or comes of an operator, by its number; all others were there before."""

    number: int


@dataclass
class Tape:
    """One recorded function."""

    inputs: list[torch.Tensor]
    operators: list[tuple[Any, Any, Any, list[int]]]
    """Operator, arguments, keyword arguments, and the numbers of what it makes."""
    made: list[Any]
    """What the function answered."""
    outputs: Outputs = ()
    """Where it lies, from run to run."""

    def replay(self) -> Outputs:
        tensors: dict[int, Any] = dict(enumerate(self.inputs))

        def known(value: Any) -> Any:
            if isinstance(value, Made):
                return tensors[value.number]
            return [known(each) for each in value] if isinstance(value, list | tuple) else value

        for operator, arguments, named, numbers in self.operators:
            results = operator(*known(arguments), **{name: known(value) for name, value in named.items()})
            tensors |= zip(numbers, _tensors(results), strict=True)
        return tuple(known(value) for value in self.made)


class Recorder(TorchDispatchMode):
    """Writes the tape while the function runs for the first and only time."""

    def __init__(self, inputs: list[torch.Tensor]) -> None:
        super().__init__()
        self.numbers = {id(tensor): number for number, tensor in enumerate(inputs)}
        self.alive = list(inputs)  # an id is one tensor's only while it lives
        self.operators: list[tuple[Any, Any, Any, list[int]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = kwargs or {}
        if func in HOST_READS:
            raise NotRecordable(f"{func} reads values of the device")
        if func in HOST_DATA:
            raise NotRecordable(f"{func} takes values of the host")
        if func is aten.index.Tensor and any(x is not None and x.dtype is torch.bool for x in args[1]):
            raise NotRecordable(f"{func} with a mask makes a shape of values")
        results = func(*args, **named)
        written = tree_map(self.written, args), tree_map(self.written, named)
        self.operators.append((func, *written, [self.number(tensor) for tensor in _tensors(results)]))
        return results

    def written(self, value: Any) -> Any:
        known = isinstance(value, torch.Tensor) and id(value) in self.numbers
        return Made(self.numbers[id(value)]) if known else value

    def number(self, tensor: torch.Tensor) -> int:
        if id(tensor) not in self.numbers:
            self.numbers[id(tensor)] = len(self.alive)
            self.alive.append(tensor)
        return self.numbers[id(tensor)]


class RecordedRunner:
    """The runner; counts what it recorded and replayed."""

    def __init__(self) -> None:
        self.tapes: dict[Hashable, Tape] = {}
        self.replays = 0

    def warm(self, key: Hashable, function: Function, inputs: Inputs) -> None:
        held = [tensor.clone() for tensor in inputs]
        with Recorder(held) as recorder:
            outputs = function(*held)
        tape = Tape(held, recorder.operators, [recorder.written(tensor) for tensor in outputs])
        tape.outputs = tuple(torch.empty_like(tensor, memory_format=torch.contiguous_format) for tensor in outputs)
        for tensor in (*held, *tape.outputs):
            _spoil(tensor)
        self.tapes[key] = tape

    def run(self, key: Hashable, inputs: Inputs) -> Outputs:
        tape = self.tapes[key]
        self.replays += 1
        for held, tensor in zip(tape.inputs, inputs, strict=True):
            assert held.shape == tensor.shape
            assert held.dtype == tensor.dtype
            held.copy_(tensor)
        for output in tape.outputs:
            _spoil(output)
        for output, value in zip(tape.outputs, tape.replay(), strict=True):
            output.copy_(value)
        for held in tape.inputs:
            _spoil(held)
        return tape.outputs

    def clear(self) -> None:
        self.tapes.clear()

    def stats(self) -> Mapping[str, float]:
        return {"replays": self.replays}


def _tensors(results: Any) -> list[torch.Tensor]:
    several = results if isinstance(results, list | tuple) else (results,)
    return [value for value in several if isinstance(value, torch.Tensor)]


def _spoil(tensor: torch.Tensor) -> None:
    """Fill with what shows wherever it is read: no number, or a place that does not exist."""
    tensor.fill_(float("nan") if tensor.is_floating_point() else -(2**40))
