"""One process that decodes pictures, seen from the server."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import numpy as np

from runtime.errors import ImageRefused, RuntimeServiceError
from runtime.geometry import tile_count
from runtime.intake.child import Task
from runtime.intake.cut import CutPicture
from runtime.intake.frames import ANSWER, ASK, CUT, LONGEST_TEXT, READY, REFUSED, receive, send

START_SECONDS: Final = 60.0
"""Which a process may take to import what it needs, on a machine that is busy loading a model."""


class DecoderFailed(Exception):
    """The process ended, overran its time or answered nonsense; it is of no use any more."""


class DecoderProcess:
    """Decodes one picture at a time; used by one thread at a time."""

    def __init__(self, task: Task) -> None:
        """Start it and do not wait; raises RuntimeServiceError when the machine starts no more processes."""
        self._task = task
        self._ready = False
        self._connection, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = subprocess.Popen(  # noqa: S603
                    [sys.executable, "-m", "runtime.intake.child", task.written()],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    cwd="/",
                    env=_environment(),
                )
            except OSError:
                self._connection.close()
                raise _no_start() from None

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether the process is gone."""
        return self._process.poll() is not None

    def cut(self, data: bytes, index: int, seconds: float) -> CutPicture:
        """Have a picture decoded and cut within `seconds`.

        Raises ImageRefused for what the process says of the picture, and DecoderFailed, TimeoutError when it says
        nothing of use: then it must be killed. RuntimeServiceError when it never began.
        """
        self._wait_until_ready()
        deadline = time.monotonic() + seconds
        try:
            send(self._connection, ASK.pack(index, len(data)), data, deadline=deadline)
            return self._answer(index, deadline)
        except TimeoutError:
            raise
        except (EOFError, OSError):
            raise DecoderFailed from None

    def kill(self) -> None:
        """End the process; a thread that waits for its answer gets DecoderFailed. Safe from any thread."""
        self._process.kill()

    def close(self) -> None:
        """End the process and give back what belongs to it; by the thread that uses it, or when none does."""
        self.kill()
        self._process.wait()
        self._connection.close()

    def _wait_until_ready(self) -> None:
        if self._ready:
            return
        with suppress(EOFError, OSError):  # TimeoutError is one
            self._ready = receive(self._connection, 1, time.monotonic() + START_SECONDS) == READY
        if not self._ready:
            raise _no_start()

    def _answer(self, index: int, deadline: float) -> CutPicture:
        """Read an answer and believe none of it: the picture may have taken the process over."""
        answer = ANSWER.unpack(receive(self._connection, ANSWER.size, deadline))
        outcome, height, width, count, digest, decoding, cutting, length = answer
        if outcome == REFUSED and length <= LONGEST_TEXT:
            raise _refusal(bytes(receive(self._connection, length, deadline)), index)
        limits, tile = self._task.limits, self._task.cutting.tile
        fits = min(height, width) >= limits.min_side and height * width <= limits.max_pixels
        if outcome != CUT or not fits or count != tile_count((height, width), self._task.cutting):
            raise DecoderFailed
        if length != count * 3 * tile**2:
            raise DecoderFailed
        tiles = np.frombuffer(receive(self._connection, length, deadline), np.uint8).reshape(count, 3, tile, tile)
        seconds = {"decode": decoding / 1e6, "tile": cutting / 1e6}
        return CutPicture((height, width), digest, tiles, seconds)


def _no_start() -> RuntimeServiceError:
    return RuntimeServiceError("pictures cannot be decoded: the process for it does not start; see the server's log")


def _refusal(text: bytes, index: int) -> ImageRefused:
    message = text.decode(errors="replace")
    if not (message.startswith(f"picture {index}: ") and message.isprintable()):
        raise DecoderFailed
    return ImageRefused(message)


def _environment() -> dict[str, str]:
    """Return what the process needs to find its modules, and nothing else of ours: no key, no token."""
    paths = [path or str(Path.cwd()) for path in sys.path]
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    return {**kept, "PYTHONPATH": os.pathsep.join(paths), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
