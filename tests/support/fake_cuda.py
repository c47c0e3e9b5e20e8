"""A stand-in for the parts of `torch.cuda` that the backend `cuda` uses: streams that run late and in any order.

Work that a stream is given, copies and replays, waits in its queue. It is done when something must be known, and at
random moments between: as late and as early as the events allow. So a copy that nothing orders comes too late or too
early, and the numbers show it. Every other name of `torch.cuda` fails, as there is no card.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from runtime_torch import cuda_graphs
from support.recorded import NotRecordable, Recorder, Tape
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

aten = torch.ops.aten
FRESH = {aten.empty.memory_format, aten.empty_like.default, aten.empty_strided.default}
"""Memory is had at once."""
LOST = "CUDA error: an illegal memory access was encountered"


class Event:
    """Marks how far a stream has come."""

    gpu: FakeGpu

    def __init__(self) -> None:
        self.marked = self.reached = 0
        self.stream: Stream | None = None

    def record(self, stream: Stream | None = None) -> None:
        self.stream = stream or self.gpu.current
        self.marked += 1
        mark = self.marked

        def reach() -> None:
            self.reached = max(self.reached, mark)

        self.stream.give(reach)

    def synchronize(self) -> None:
        self.gpu.check()
        while self.reached < self.marked:
            assert self.stream is not None
            self.stream.step()


class Stream:
    """Work in order."""

    gpu: FakeGpu

    def __init__(self) -> None:
        self.work: deque[tuple[Callable[[], None], tuple[Event, int] | None]] = deque()
        self.gpu.streams.append(self)

    def give(self, work: Callable[[], None], wait: tuple[Event, int] | None = None) -> None:
        if self.gpu.capturing:
            raise NotRecordable("a stream that is captured is given what no graph holds")
        self.work.append((work, wait))
        self.gpu.perhaps()

    def wait_event(self, event: Event) -> None:
        if event.marked:
            self.give(lambda: None, (event, event.marked))

    def wait_stream(self, other: Stream) -> None:
        event = Event()
        event.record(other)
        self.wait_event(event)

    def step(self) -> None:
        """Do the first of the work, and before that what it waits for."""
        work, wait = self.work[0]
        if wait is not None:
            event, mark = wait
            while event.reached < mark:
                assert event.stream is not None
                event.stream.step()
        self.work.popleft()
        with _disable_current_modes(), torch.inference_mode():
            work()

    def catch_up(self) -> None:
        while self.work:
            self.step()


class CudaGraph:
    """A recorded tape."""

    gpu: FakeGpu

    def __init__(self) -> None:
        self.tape: Tape | None = None

    def replay(self) -> None:
        assert self.tape is not None
        self.gpu.current.give(self._replayed)

    def _replayed(self) -> None:
        assert self.tape is not None
        self.tape.replay()


class OnDevice(torch.Tensor):
    """A tensor that says it lies on the device."""

    is_cuda = True


class FakeGpu:
    """One card; use it as `with gpu.working()`."""

    def __init__(self, seed: int = 0) -> None:
        self.chance = random.Random(seed)
        self.streams: list[Stream] = []
        self.capturing = False
        self.captures = 0
        self.attempts = 0
        self.full_at: set[int] = set()
        """Attempts to capture that there is no memory for."""
        self.is_lost = False
        self.free, self.total = 10 * 2**30, 16 * 2**30
        self.emptied = 0
        self.staged: dict[int, torch.Tensor] = {}
        for kind in (Event, Stream, CudaGraph):
            kind.gpu = self
        self.current = Stream()

    def perhaps(self) -> None:
        """Let some time pass, or none."""
        while not self.capturing and self.chance.random() < 0.4:
            busy = [stream for stream in self.streams if stream.work]
            if not busy:
                return
            self.chance.choice(busy).step()

    def check(self) -> None:
        if self.is_lost:
            raise RuntimeError(LOST)

    def synchronise(self, device: object = None) -> None:
        self.check()
        for stream in self.streams:
            stream.catch_up()

    def current_stream(self) -> Stream:
        return self.current

    @contextmanager
    def stream(self, stream: Stream) -> Iterator[None]:
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    @contextmanager
    def graph(self, graph: CudaGraph, *, pool: object, stream: Stream, capture_error_mode: str) -> Iterator[None]:
        """Capture: nothing but what is recorded may happen; and where it fails, the stream stays, as with PyTorch."""
        assert pool == "pool"
        assert capture_error_mode == "thread_local"
        self.synchronise()
        before, self.current = self.current, stream
        self.capturing = True
        self.attempts += 1
        try:
            with Recorder([]) as recorder:
                yield
            if self.attempts in self.full_at:
                raise torch.OutOfMemoryError("CUDA out of memory")
        except torch.OutOfMemoryError as error:
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture") from error
        finally:
            self.capturing = False
        self.current = before
        self.captures += 1
        graph.tape = Tape([], recorder.operators, [])

    def pinned(self, tensor: torch.Tensor) -> torch.Tensor:
        room = torch.empty(tensor.shape, dtype=tensor.dtype)
        self.staged[id(room)] = room
        return room

    def empty_cache(self) -> None:
        self.check()
        self.emptied += 1

    def read(self, tensor: torch.Tensor) -> torch.Tensor:
        """What the host gets of a tensor: behind all that the current stream was given."""
        self.current.catch_up()
        return tensor.clone()

    @contextmanager
    def working(self) -> Iterator[None]:
        with _Queued(self):
            yield


class _Queued(TorchDispatchMode):
    """Puts copies to the device into the current stream; all else is done behind what the stream has."""

    def __init__(self, gpu: FakeGpu) -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = kwargs or {}
        if self.gpu.capturing or func in FRESH:
            return func(*args, **named)
        if func is aten.copy_.default:
            if id(args[0]) in self.gpu.staged:
                return func(*args, **named)
            target, source = args[0], args[1]
            if id(source) in self.gpu.staged or isinstance(source, OnDevice):
                self.gpu.current.give(lambda: _copied(target, source))
                return target
        self.gpu.current.catch_up()
        return func(*args, **named)


def _copied(target: torch.Tensor, source: torch.Tensor) -> None:
    target.copy_(source)


def install(patch: pytest.MonkeyPatch, seed: int = 0) -> FakeGpu:
    """Put a card of its own into `torch.cuda`, for one test."""
    gpu = FakeGpu(seed)
    names: dict[str, Any] = {
        "Event": Event,
        "Stream": Stream,
        "CUDAGraph": CudaGraph,
        "graph": gpu.graph,
        "stream": gpu.stream,
        "current_stream": gpu.current_stream,
        "graph_pool_handle": lambda: "pool",
        "synchronize": gpu.synchronise,
        "empty_cache": gpu.empty_cache,
        "mem_get_info": lambda device: (gpu.free, gpu.total),
        "set_device": lambda device: None,
    }
    for name, value in names.items():
        patch.setattr(torch.cuda, name, value)
    patch.setattr(cuda_graphs, "pinned", gpu.pinned)
    return gpu
