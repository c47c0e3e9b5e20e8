"""A running `runtime serve`, both its processes, and the memory they take."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Final

from runtime.plugins import backend_named

from benchmarks.serving.driver import drive
from benchmarks.serving.figures import Reply

STOP_SECONDS: Final = 30
CONTEXT: Final = 2048
"""Tokens of prompt and reply: room for every workload."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of all processes together."""

    proportional: int
    """Pages that several processes share are divided among them (PSS)."""
    peak: int
    """The sum of each process's highest resident size; shared pages and mapped files count in each."""


class Server:
    """Started on construction; ready when that returns."""

    def __init__(self, backend: str, model: Path, threads: int, rows: int) -> None:
        """Raises RuntimeError with what the server said when it does not start."""
        command = [sys.executable, "-m", "runtime", "serve", "--backend", backend, "--model-id", str(model)]
        command += ["--hostname", "127.0.0.1", "--port", "0", "--ignore-eos", "--max-batch-size", str(rows)]
        command += ["--max-total-tokens", str(CONTEXT), *backend_flags(backend, threads)]
        started = time.perf_counter()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        )
        assert self._process.stdout is not None
        self._port = self._wait(self._process.stdout)
        self.ready_seconds = time.perf_counter() - started
        """From the command to the line that says `Connected`."""
        threading.Thread(target=_forward, args=[self._process.stdout], daemon=True).start()

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def run(self, inputs: list[str], new_tokens: int) -> list[Reply]:
        """Ask all at once over HTTP."""
        return drive(self._port, inputs, new_tokens)

    def memory(self) -> Memory:
        """Return what gateway, worker and their children take; Linux only."""
        processes = list(_tree(self._process.pid))
        return Memory(
            sum(_kilobytes(process / "smaps_rollup", "Pss") for process in processes),
            sum(_kilobytes(process / "status", "VmHWM") for process in processes),
        )

    def _wait(self, output: IO[str]) -> int:
        said, port = [], 0
        for line in output:
            said.append(line)
            if found := re.search(r"HTTP on http://.*:(\d+)", line):
                port = int(found[1])
            if "Connected" in line:
                return port
        raise RuntimeError("the server did not start:\n" + "".join(said))


def _forward(output: IO[str]) -> None:
    """Pass on a running server's warnings and failures; it also logs every request."""
    for line in output:
        if " INFO " not in line:
            sys.stderr.write(line)


def backend_options(backend: str, threads: int) -> dict[str, str | int]:
    """Return what the benchmark asks of a backend, as far as it has such options."""
    spec = backend_named(backend).spec
    assert spec is not None
    wanted: dict[str, str | int] = {"dtype": "bfloat16", "threads": threads}
    declared = {knob.name for knob in spec.options}
    return {name: value for name, value in wanted.items() if name in declared}


def backend_flags(backend: str, threads: int) -> list[str]:
    """Return the same as words of the command line."""
    return [word for name, value in backend_options(backend, threads).items() for word in (f"--{name}", str(value))]


def _tree(process_id: int) -> Iterator[Path]:
    """Yield the folder in /proc of a process and of all below it."""
    yield Path(f"/proc/{process_id}")
    for task in Path(f"/proc/{process_id}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from _tree(int(child))


def _kilobytes(path: Path, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", path.read_text(), re.MULTILINE)
    assert found is not None
    return 1024 * int(found[1])
