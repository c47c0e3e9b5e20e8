"""HPU graphs: recorded once, run again without Python (vendor: hpu/graphs.py, backend/habana_device/HPUGraph.cpp)."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import Any, Final

import torch

from virtual_device.counters import NOW, call_site
from virtual_device.dispatch import count_stale
from virtual_device.memory import GRAPH_BYTES, Allocation
from virtual_device.recipes import RECIPES
from virtual_device.state import STATE
from virtual_device.streams import Stream, current_stream, stream
from virtual_device.tape import Tape, address_of, private_copy
from virtual_device.tensor import HpuTensor

ANONYMOUS: Final = "HPUGraph"


class HPUGraph:
    """One recording. One capture at a time in a process, and no replay meanwhile."""

    def __init__(self) -> None:
        self.name = ANONYMOUS
        self.runs = 0
        self._tape: Tape | None = None
        self._stream: Stream | None = None
        self._charge: Allocation | None = None
        self._given: dict[int, tuple[HpuTensor, torch.Tensor]] = {}
        """While recording, the marked inputs and their own hidden tensors, which others stand for meanwhile."""
        self._inputs: list[torch.Tensor] = []
        """Hidden tensors that stand for the marked inputs inside the graph."""
        self._outputs: list[HpuTensor] | None = None

    def capture_begin(self, dry_run: bool = False) -> None:
        """Record from now on; a dry run leaves everything as it was, and a replay brings the first result."""
        if STATE.tape is not None:
            raise RuntimeError(f"GRAPH:: graph Capture already in progress ({call_site()})")
        STATE.check()
        RECIPES.cut()
        self._stream = current_stream()
        self._tape = STATE.tape = Tape(dry_run)

    def capture_end(self) -> None:
        """End the recording, on the stream that it began on."""
        tape = self._being_captured()
        if current_stream() != self._stream:
            raise RuntimeError(f"GRAPH:: Capture must end on the same stream it began on. ({call_site()})")
        self._let_go()
        RECIPES.cut()
        with torch._C._InferenceMode(False), torch.no_grad():
            tape.end()
        self._charge = Allocation(GRAPH_BYTES + tape.unseen_bytes(), graph=True)
        NOW.captures[self.name] += 1

    def abandon(self) -> None:
        """Leave a capture that failed. On the card its state is undefined, and the process must end."""
        self._let_go()
        self._tape = None

    def mark_user_inputs(self, static_tlist: Sequence[torch.Tensor]) -> None:
        """While recording: these are given anew at each replayV3, in place of those of the capture."""
        self._being_captured()
        for tensor in static_tlist:
            assert isinstance(tensor, HpuTensor)
            if id(tensor) not in self._given:
                self._given[id(tensor)] = tensor, tensor._hidden
                with torch._C._InferenceMode(False), torch.no_grad():
                    tensor._hidden = private_copy(tensor._hidden)
            self._inputs.append(tensor._hidden)

    def get_user_input_match_indices(self) -> list[int]:
        """Places of the marked inputs that the graph uses."""
        assert self._tape is not None
        return [place for place, inner in enumerate(self._inputs) if address_of(inner) in self._tape.touched]

    def mark_user_outputs(self, static_tlist: Sequence[torch.Tensor]) -> None:
        """After recording: only these are wanted, all else that the graph computes is given back."""
        if STATE.tape is not None:
            raise RuntimeError(f"GRAPH:: Capture in progress ({call_site()})")
        if self._outputs is not None:
            raise RuntimeError("Error:mark_user_outputs is called more than once for the same graph?")
        self._outputs = [tensor for tensor in static_tlist if isinstance(tensor, HpuTensor)]
        self._charge = None
        self._charge = Allocation(GRAPH_BYTES, graph=True)

    def replay(self, asynchronous: bool = False) -> None:
        """Run the recording again, on the tensors of the capture."""
        if STATE.tape is not None:
            raise RuntimeError(f"GRAPH:: Capture in progress ({call_site()})")
        STATE.check()
        if self._tape is None:
            raise RuntimeError("an hpu graph that was not captured, or was reset, holds nothing to replay")
        RECIPES.cut()
        with torch._C._InferenceMode(False), torch.no_grad():
            self._tape.run()
            if self._outputs is not None:
                self._tape.forget_all_but([output._hidden for output in self._outputs])
        self.runs += 1
        NOW.replays[self.name] += 1

    def replayV2(self, static_tlist: Sequence[Any], tlist: Sequence[Any], asynchronous: bool = False) -> None:
        """Run it again, with inputs copied into those of the capture."""
        for place, value in zip(static_tlist, tlist, strict=True):
            place.copy_(value)
        self.replay(asynchronous)

    def replayV3(self, tlistI: Sequence[Any], asynchronous: bool = False) -> None:
        """Run it again, with inputs in place of those that were marked; what it writes to them, it writes to these."""
        captured, given = [inner.shape for inner in self._inputs], [tensor.shape for tensor in tlistI]
        if captured != given:
            raise RuntimeError(f"the hpu graph was captured with inputs of {captured} and is given {given}")
        count_stale(tlistI)
        pairs = [(inner, tensor._hidden) for inner, tensor in zip(self._inputs, tlistI, strict=True)]
        with torch._C._InferenceMode(False), torch.no_grad():
            for inner, outer in pairs:
                inner.copy_(outer)
        self.replay(asynchronous)
        with torch._C._InferenceMode(False), torch.no_grad():
            for inner, outer in pairs:
                if self._tape is not None and address_of(inner) in self._tape.written:
                    outer.copy_(inner)

    def clear_inputs(self) -> None:
        """Give back inputs that the graph wrote to; they stay here, as Python holds them."""

    def reset(self) -> None:
        """Give back all that the graph holds."""
        self._tape = self._charge = self._outputs = None
        self._inputs = []

    def _being_captured(self) -> Tape:
        if self._tape is None or STATE.tape is not self._tape:
            raise RuntimeError(f"GRAPH:: Use Graph capture to Begin the capture ({call_site()})")
        return self._tape

    def _let_go(self) -> None:
        STATE.tape = None
        for tensor, outer in self._given.values():
            tensor._hidden = outer
        self._given = {}


class graph:  # the vendor's name
    """Captures what runs within a `with`, on a stream of its own unless one is given."""

    default_capture_stream: Stream | None = None

    def __init__(self, hpu_graph: HPUGraph, stream: Stream | None = None, dry_run: bool = False) -> None:
        if graph.default_capture_stream is None:
            graph.default_capture_stream = Stream()
        self.capture_stream = stream or graph.default_capture_stream
        self.hpu_graph = hpu_graph
        self.dry_run = dry_run

    def __enter__(self) -> None:
        STATE.host_waits("synchronize")
        gc.collect()
        self._stream = stream(self.capture_stream)
        self._stream.__enter__()
        self.hpu_graph.capture_begin(self.dry_run)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.hpu_graph.capture_end()
        else:
            self.hpu_graph.abandon()
        self._stream.__exit__()


def is_current_stream_capturing() -> bool:
    """Whether a graph is being captured on the current stream."""
    return STATE.tape is not None
