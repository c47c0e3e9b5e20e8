"""Functions of fixed shapes as CUDA graphs, and the copies that bring their inputs.

Three streams: the current one replays, one copies inputs from pinned memory, one captures. Events keep them in order,
and the host waits for none but an earlier copy from the memory that it is about to fill.

Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

from __future__ import annotations

import gc
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from runtime.errors import UnplannedShape
from runtime.static.graphs import Function, Inputs, Outputs


@dataclass(frozen=True, slots=True)
class Inlet:
    """Where one input of a graph lies, at every replay."""

    held: torch.Tensor  # as the function takes it, device
    staged: torch.Tensor | None  # the same, pinned host memory
    """None for an input that is made on the device."""

    @classmethod
    def like(cls, tensor: torch.Tensor, device: torch.device) -> Inlet:
        """Make room for inputs such as this one."""
        held = torch.empty(tensor.shape, dtype=tensor.dtype, device=device)
        return cls(held, None if tensor.is_cuda else pinned(tensor))


class Captured:
    """One function: its graph, and the tensors that the graph reads and writes."""

    def __init__(self, inputs: Inputs, device: torch.device) -> None:
        self.outputs: Outputs = ()
        self._inlets = [Inlet.like(tensor, device) for tensor in inputs]
        self._graph = torch.cuda.CUDAGraph()
        self._copied, self._consumed = _event(), _event()
        self._consumed.record()  # what had the memory of the inlets before may be under way still

    def fill(self, inputs: Inputs, copying: torch.cuda.Stream) -> None:
        """Bring inputs to the device: those of the host by way of pinned memory, beside whatever computes."""
        pairs = list(zip(self._inlets, inputs, strict=True))
        staged = [(inlet.held, inlet.staged, tensor) for inlet, tensor in pairs if inlet.staged is not None]
        self._copied.synchronize()  # of the run before, long done in most cases
        for _, host, tensor in staged:
            host.copy_(tensor)
        with torch.cuda.stream(copying):
            copying.wait_event(self._consumed)
            for held, host, _ in staged:
                held.copy_(host, non_blocking=True)
            self._copied.record()
        for inlet, tensor in pairs:
            if inlet.staged is None:
                inlet.held.copy_(tensor)  # in the stream that has made it, and that has replayed before
        torch.cuda.current_stream().wait_event(self._copied)

    def capture(self, function: Function, capturing: torch.cuda.Stream, pool: Any) -> None:
        """Run the function once, so that all it needs is loaded, and capture it.

        Outputs are copied out of the pool, within the graph: all graphs use the same pool, so that each overwrites
        what another has left there.
        """
        held = [inlet.held for inlet in self._inlets]
        capturing.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(capturing):
            results = function(*held)
        torch.cuda.current_stream().wait_stream(capturing)
        self.outputs = tuple(torch.empty_like(each, memory_format=torch.contiguous_format) for each in results)
        del results  # the capture begins by giving back what is not used
        # The outer context returns to the stream of before even where a capture fails: the inner one would not.
        with (
            torch.cuda.stream(capturing),
            torch.cuda.graph(self._graph, pool=pool, stream=capturing, capture_error_mode="thread_local"),
        ):
            for output, result in zip(self.outputs, function(*held), strict=True):
                output.copy_(result)

    def replay(self) -> None:
        """Compute the outputs of the inputs that were filled in last."""
        self._graph.replay()
        self._consumed.record()


class CudaGraphRunner:
    """The runner of the backend; see `runtime.static.graphs.GraphRunner`."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._copying, self._capturing = _stream(), _stream()
        self._pool: Any = torch.cuda.graph_pool_handle()
        self._graphs: dict[Hashable, Captured] = {}
        self._captures = self._replays = self._copies = 0

    def warm(self, key: Hashable, function: Function, inputs: Inputs) -> None:
        captured = Captured(inputs, self._device)
        captured.fill(inputs, self._copying)
        captured.capture(function, self._capturing, self._pool)
        self._graphs[key] = captured
        self._captures += 1

    def run(self, key: Hashable, inputs: Inputs) -> Outputs:
        """See `GraphRunner`; raises UnplannedShape for what was not prepared."""
        captured = self._graphs.get(key)
        if captured is None:
            raise UnplannedShape(f"{key} was not prepared")
        captured.fill(inputs, self._copying)
        captured.replay()
        self._replays += 1
        self._copies += len(inputs)
        return captured.outputs

    def clear(self) -> None:
        torch.cuda.synchronize()
        self._graphs.clear()
        gc.collect()
        self._pool = torch.cuda.graph_pool_handle()  # a capture that failed may have left the old one in use
        torch.cuda.empty_cache()

    def stats(self) -> Mapping[str, float]:
        return {"graph_captures": self._captures, "graph_runs": self._replays, "input_copies": self._copies}


def _event() -> torch.cuda.Event:
    return torch.cuda.Event()  # type: ignore[no-untyped-call]


def _stream() -> torch.cuda.Stream:
    return torch.cuda.Stream()  # type: ignore[no-untyped-call]


def pinned(tensor: torch.Tensor) -> torch.Tensor:
    """Return host memory, for as much as a tensor, that the device can copy from by itself."""
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
