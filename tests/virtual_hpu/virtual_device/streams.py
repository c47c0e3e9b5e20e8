"""Streams and events. Work is done at once and in order; what can go wrong is who waits for what."""

from __future__ import annotations

import itertools
import threading
import time
from typing import Any, Final

from virtual_device.reads import READS
from virtual_device.state import STATE

_NUMBERS: Final = itertools.count(1)


class Stream:
    """A queue of work; number 0 is the default one."""

    def __init__(self, device: Any = None, priority: int = 0, **keywords: Any) -> None:
        self.stream_id: int = keywords.get("stream_id", next(_NUMBERS))
        self.device_index = 0
        self.is_capture = False

    def wait_event(self, event: Event) -> None:
        """Let what comes later wait for an event."""
        event.wait(self)

    def wait_stream(self, stream: Stream) -> None:
        """Let what comes later wait for all that another stream has now."""
        self.wait_event(stream.record_event())

    def record_event(self, event: Event | None = None) -> Event:
        """Record an event here, a new one by default."""
        event = event or Event()
        event.record(self)
        return event

    def query(self) -> bool:
        """Whether all work is done."""
        STATE.check()
        READS.arrive()
        return True

    def synchronize(self) -> None:
        """Wait for all work."""
        STATE.host_waits("stream.synchronize")

    def id(self) -> int:
        """The number of the stream."""
        return self.stream_id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and self.stream_id == other.stream_id

    def __hash__(self) -> int:
        return hash((self.stream_id, self.device_index))

    def __repr__(self) -> str:
        return f"<torch.hpu.Stream device=hpu:0 hpu_stream={self.stream_id:#x}>"


class Event:
    """A place in a stream. Waiting for it brings only the reads that were started before it was recorded."""

    def __init__(self, enable_timing: bool = False) -> None:
        self._timed = enable_timing
        self._reads: int | None = None
        self._time = 0.0

    def record(self, stream: Stream | None = None) -> None:
        """Note how far the work has come."""
        STATE.check()
        self._reads, self._time = READS.issued, time.perf_counter()

    def wait(self, stream: Stream | None = None) -> None:
        """Let later work of a stream wait; the work here is in order already."""
        STATE.check()

    def query(self) -> bool:
        """Whether the event has happened: one that was never recorded has."""
        self._arrive()
        return True

    def synchronize(self) -> None:
        """Wait for the event."""
        STATE.host_read("event.synchronize")
        self._arrive()

    def elapsed_time(self, end_event: Event) -> float:
        """Milliseconds from this event to another."""
        if not (self._timed and end_event._timed):
            raise RuntimeError("Both events must be created with argument 'enable_timing=True'.")
        return (end_event._time - self._time) * 1000

    def _arrive(self) -> None:
        STATE.check()
        if self._reads is not None:
            READS.arrive(self._reads)


class StreamContext:
    """Makes a stream the current one of this thread for a while; None changes nothing."""

    def __init__(self, stream: Stream | None) -> None:
        self.stream = stream

    def __enter__(self) -> None:
        self._before = current_stream()
        set_stream(self.stream)

    def __exit__(self, *_: object) -> None:
        set_stream(self._before)


_DEFAULT: Final = Stream(stream_id=0)
_CURRENT: Final = threading.local()


def stream(stream: Stream | None) -> StreamContext:
    """Make a stream the current one within a `with`."""
    return StreamContext(stream)


def set_stream(stream: Stream | None) -> None:
    """Make a stream the current one."""
    if stream is not None:
        _CURRENT.stream = stream


def current_stream(device: Any = None) -> Stream:
    """The stream that work goes to."""
    return getattr(_CURRENT, "stream", _DEFAULT)


def default_stream(device: Any = None) -> Stream:
    """The stream that work goes to when none was chosen."""
    return _DEFAULT
