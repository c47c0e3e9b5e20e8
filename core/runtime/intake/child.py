"""The process that decodes pictures: `python -m runtime.intake.child TASK`, with a socket as standard input.

It imports neither PyTorch nor anything that speaks to a network, has no secret in its environment, and ends when its
socket does. `process.py` is its other side.
"""

from __future__ import annotations

import json
import os
import resource
import socket
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from runtime.errors import ImageRefused
from runtime.intake.cut import cut_picture
from runtime.intake.decode import out_of_memory
from runtime.intake.frames import ANSWER, ASK, CUT, READY, REFUSED, receive, send
from runtime.intake.limits import IntakeLimits
from runtime.intake.tiles import Cutting

BYTES_PER_PIXEL: Final = 24
"""Of memory: see `IntakeLimits.max_pixels`."""
SPARE_BYTES: Final = 2**27
"""Of memory, for what does not grow with the picture."""
NICENESS: Final = 19
"""Pictures wait for tokens: where both want a core, decoding gets a seventieth of it.

Only among the processes of one session: Linux shares cores among sessions before it looks at urgency (sched(7), The
autogroup feature), so a decoder stays in the server's.
"""


@dataclass(frozen=True, slots=True)
class Task:
    """What a decoder is told when it is started."""

    limits: IntakeLimits
    cutting: Cutting
    cpu_seconds: int
    """That one picture may take."""

    def written(self) -> str:
        """Return it as the argument of the process."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, written: str) -> Task:
        """Return what `written` gave."""
        task: dict[str, Any] = json.loads(written)
        cutting = task["cutting"]
        pinpoints = tuple((height, width) for height, width in cutting.pop("pinpoints"))
        return cls(IntakeLimits(**task["limits"]), Cutting(pinpoints=pinpoints, **cutting), task["cpu_seconds"])


def main() -> None:
    """Answer until the other side closes the socket."""
    task = Task.read(sys.argv[1])
    connection = socket.socket(fileno=0)
    os.setpgrp()  # a terminal's Ctrl-C is the server's alone
    os.nice(NICENESS)
    _bind(task.limits)
    with suppress(EOFError, ConnectionError):  # the server is gone, or wants us no more
        send(connection, READY)
        while True:
            index, length = ASK.unpack(receive(connection, ASK.size))
            data = bytes(receive(connection, length))
            _allow(task.cpu_seconds)
            send(connection, *_answer(data, index, task))


def _answer(data: bytes, index: int, task: Task) -> tuple[bytes, bytes | memoryview]:
    try:
        picture = cut_picture(data, index, task.limits, task.cutting)
    except MemoryError:
        return _refusal(out_of_memory(index))
    except ImageRefused as refusal:
        return _refusal(refusal)
    microseconds = [int(picture.seconds[stage] * 1e6) for stage in ("decode", "tile")]
    tiles = picture.tiles
    header = ANSWER.pack(CUT, *picture.size, len(tiles), picture.digest, *microseconds, tiles.nbytes)
    return header, tiles.data.cast("B")


def _refusal(refusal: ImageRefused) -> tuple[bytes, bytes]:
    text = refusal.message.encode()
    return ANSWER.pack(REFUSED, 0, 0, 0, bytes(32), 0, 0, len(text)), text


def _bind(limits: IntakeLimits) -> None:
    """Give up what decoding does not need: memory beyond the largest picture, files, core dumps."""
    memory = _own_memory() + limits.max_pixels * BYTES_PER_PIXEL + 2 * limits.max_bytes + SPARE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _own_memory() -> int:
    """Return the size of this process's address space, bytes."""
    pages = Path("/proc/self/statm")
    return int(pages.read_text().split()[0]) * resource.getpagesize() if pages.exists() else 0


def _allow(seconds: int) -> None:
    """Have the kernel end this process when it computes for that long from now."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + 1 + seconds, hard))


if __name__ == "__main__":
    main()
