"""What a graph recorded: operators with the very tensors of the capture, run again without Python.

The hidden tensors are the fixed addresses of a graph: an operator that runs again writes where it wrote at capture,
so that views, outputs and persistent buffers alias as on the card. Views themselves need no step.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from virtual_device.memory import Allocation
from virtual_device.poison import poison


@dataclass(frozen=True, slots=True)
class Step:
    """One operator; all tensors are hidden ones."""

    operator: OpOverload
    arguments: list[Any]
    keywords: dict[str, Any]
    results: list[Tensor | None]
    """Where to put what it answers; None for what aliases an argument."""

    def run(self) -> None:
        answer = self.operator(*self.arguments, **self.keywords)
        for place, value in zip(self.results, tensors_of(answer), strict=True):
            if place is not None:
                place.copy_(value)


class Tape:
    """Steps in order, and the memory they brought into being. Belongs to the thread that began it."""

    def __init__(self, dry_run: bool) -> None:
        self.thread = threading.get_ident()
        self.touched: set[int] = set()
        """Addresses of the memory that steps read or write."""
        self.written: set[int] = set()
        self._dry_run = dry_run
        self._steps: list[Step] = []
        self._fresh: list[tuple[Tensor, weakref.ref[Allocation]]] = []
        self._fresh_addresses: set[int] = set()
        self._before: dict[int, tuple[Tensor, Tensor]] = {}

    def created(self, memory: Tensor, allocation: Allocation | None) -> None:
        """Note memory that exists because of the graph."""
        assert allocation is not None
        self._fresh.append((memory, weakref.ref(allocation)))
        self._fresh_addresses.add(address_of(memory))

    def about_to_write(self, memory: Tensor) -> None:
        """Keep what persistent memory holds: a dry run must leave it as it was."""
        place = address_of(memory)
        self.written.add(place)
        if self._dry_run and place not in self._fresh_addresses and place not in self._before:
            self._before[place] = memory, memory.clone()

    def record(
        self, operator: OpOverload, arguments: list[Any], keywords: dict[str, Any], answer: Any, fresh: list[Tensor]
    ) -> None:
        """Append a step; `fresh` are the tensors of the answer that have memory of their own."""
        self.touched.update(map(address_of, tensors_of([*arguments, *keywords.values()])))
        results = [value if any(value is own for own in fresh) else None for value in tensors_of(answer)]
        self._steps.append(Step(operator, arguments, keywords, results))

    def end(self) -> None:
        """Finish the recording; after a dry run it is as if nothing had run."""
        if self._dry_run:
            for memory, before in self._before.values():
                memory.copy_(before)
            self.forget_all_but(())
        self._before.clear()

    def run(self) -> None:
        """Run every step again."""
        for step in self._steps:
            step.run()

    def forget_all_but(self, outputs: Iterable[Tensor]) -> None:
        """Poison what the graph computed on the way."""
        kept = {address_of(output) for output in outputs}
        for memory, _ in self._fresh:
            if address_of(memory) not in kept:
                poison(memory)

    def unseen_bytes(self) -> int:
        """Bytes of memory that only the graph still holds."""
        alone = {address_of(memory): memory for memory, allocation in self._fresh if allocation() is None}
        return sum(memory.untyped_storage().nbytes() for memory in alone.values())


def address_of(memory: Tensor) -> int:
    """Where the memory of a hidden tensor lies, whatever part of it the tensor is."""
    return memory.untyped_storage().data_ptr()


def tensors_of(values: Any) -> list[Tensor]:
    """The tensors in nested lists, tuples and values of dicts."""
    if isinstance(values, Tensor):
        return [values]
    if isinstance(values, dict):
        values = values.values()
    elif not isinstance(values, (list, tuple)):
        return []
    return [tensor for value in values for tensor in tensors_of(value)]


def private_copy(memory: Tensor) -> Tensor:
    """A tensor of the same layout and content in memory of its own."""
    if 0 in memory.stride():  # expanded: cannot be written to, so its layout is not kept
        return memory.clone()
    return torch.empty_strided(memory.shape, memory.stride(), dtype=memory.dtype).copy_(memory)
