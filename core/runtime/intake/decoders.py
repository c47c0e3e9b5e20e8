"""The processes that decode pictures."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace

from runtime.errors import ImageRefused, RuntimeServiceError
from runtime.intake.child import Task
from runtime.intake.cut import CutPicture
from runtime.intake.limits import IntakeLimits
from runtime.intake.process import DecoderFailed, DecoderProcess
from runtime.intake.tiles import Cutting
from runtime.telemetry.pictures import StageClock


@dataclass(frozen=True, slots=True)
class DecodeTimes:
    """How long one picture may take, seconds. The largest this server takes by default takes about two."""

    cpu: int = 10
    """Of a processor."""
    wall: float = 20.0
    """Longer, for a machine has more to do."""
    patience: float = 1.0
    """After which it no longer keeps others waiting: a spare process takes the next picture."""


class Decoders:
    """Up to `size` processes, and as many spare ones for when those are held up. Lives on one event loop."""

    def __init__(self, size: int, limits: IntakeLimits, cutting: Cutting, times: DecodeTimes | None = None) -> None:
        """Start nothing yet: see `start`."""
        self._times = times or DecodeTimes()
        self._task = Task(limits, cutting, self._times.cpu)
        self._turns = asyncio.Semaphore(size)
        self._spares = size
        # One thread for each process: it waits for the answer, so that no other thread does.
        self._threads = ThreadPoolExecutor(2 * size, thread_name_prefix="decode")
        self._lock = threading.Lock()
        self._closed = False
        self._size = size
        self._idle: list[DecoderProcess] = []
        self._busy: set[DecoderProcess] = set()

    @property
    def pids(self) -> frozenset[int]:
        """Of the processes there are now."""
        with self._lock:
            return frozenset(process.pid for process in (*self._idle, *self._busy))

    def start(self) -> None:
        """Start the processes and do not wait, so that the first pictures find them ready.

        Raises RuntimeServiceError when the machine starts no more processes.
        """
        with self._lock:
            self._idle += [DecoderProcess(self._task) for _ in range(self._size)]

    async def cut(self, load: Callable[[], bytes], index: int) -> CutPicture:
        """Decode and cut the bytes that `load` gives on a thread; raises ImageRefused, also when a process is lost."""
        await self._turns.acquire()
        aside = False
        try:
            job = asyncio.get_running_loop().run_in_executor(self._threads, self._cut, load, index)
            job.add_done_callback(_heard)
            await asyncio.wait({job}, timeout=self._times.patience)
            aside = not job.done() and self._spares > 0
            if aside:
                self._spares -= 1
                self._turns.release()
            return await job
        finally:
            if aside:
                self._spares += 1
            else:
                self._turns.release()

    def close(self) -> None:
        """End the processes; pictures in them are refused."""
        with self._lock:
            self._closed = True
            for busy in self._busy:
                busy.kill()
            while self._idle:
                self._idle.pop().close()
        self._threads.shutdown(cancel_futures=True)

    def _cut(self, load: Callable[[], bytes], index: int) -> CutPicture:
        clock = StageClock()
        data = load()
        clock.end("fetch")
        process = self._taken()
        useful = False
        try:
            picture = process.cut(data, index, self._times.wall)
            useful = True
            return replace(picture, seconds={**clock.seconds, **picture.seconds})
        except ImageRefused:
            useful = True
            raise
        except TimeoutError:
            raise _lost(index, f"it takes longer than {self._times.wall:g} s, the most this server gives") from None
        except DecoderFailed:
            raise _lost(index, "its data is damaged, or takes more time or memory than this server gives") from None
        finally:
            self._put_back(process, useful)

    def _taken(self) -> DecoderProcess:
        with self._lock:
            process = self._idle.pop() if self._idle else DecoderProcess(self._task)
            if process.ended:  # killed while nobody used it
                process.close()
                process = DecoderProcess(self._task)
            self._busy.add(process)
            return process

    def _put_back(self, process: DecoderProcess, useful: bool) -> None:
        """Keep a process, or put a new one in its place at once, which starts before the next picture comes."""
        with self._lock:
            self._busy.discard(process)
            if useful and not self._closed:
                self._idle.append(process)
                return
            process.close()
            if not self._closed:
                with suppress(RuntimeServiceError):  # the next picture tries again, and tells
                    self._idle.append(DecoderProcess(self._task))


def _heard(job: asyncio.Future[CutPicture]) -> None:
    """Take note of an error that nobody waits for any more, because another picture of the request was refused."""
    if not job.cancelled():
        job.exception()


def _lost(index: int, reason: str) -> ImageRefused:
    return ImageRefused(f"picture {index}: it could not be decoded: {reason}; encode the picture again, or smaller")
