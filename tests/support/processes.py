"""Real server processes: `runtime serve` started, watched line by line and stopped."""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
from runtime.config import KNOBS

ROOT = Path(__file__).parents[2]
SOURCES = (ROOT / "core", *(ROOT / "plugins" / name for name in ("cpu_reference", "hpu", "torch")), ROOT / "tests")
"""As pytest has them, so that the processes run the same code as the tests."""
START_SECONDS = 60
ANSWER_SECONDS = 30
END_SECONDS = 20


def runtime_command(*arguments: str) -> list[str]:
    """The command line of `runtime` in the interpreter of the tests."""
    return [sys.executable, "-m", "runtime", *arguments]


def environment(*folders: Path) -> dict[str, str]:
    """What a child process sees: these folders and our sources on the path of imports, one thread, and no knob."""
    inherited = {name: value for name, value in os.environ.items() if name not in {knob.environment for knob in KNOBS}}
    return {**inherited, "PYTHONPATH": os.pathsep.join(map(str, [*folders, *SOURCES])), "OMP_NUM_THREADS": "1"}


def children(process_id: int) -> list[int]:
    """The child processes of a process."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = status.read_text().rpartition(")")[2].split()[1]
        except OSError:  # it ended meanwhile
            continue
        if int(parent) == process_id:
            found.append(int(status.parent.name))
    return found


def refused(*arguments: str, folders: Sequence[Path] = ()) -> str:
    """The one line on standard error of a command that must end with status 1."""
    done = subprocess.run(
        runtime_command(*arguments),
        env=environment(*folders),
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )
    assert done.returncode == 1, done
    (line,) = done.stderr.splitlines()
    assert "Traceback" not in done.stdout
    return line


class Server:
    """A running `runtime serve`. Standard error is read with standard output, of all processes together."""

    def __init__(self, arguments: Sequence[str], folders: Sequence[Path], variables: Mapping[str, str]) -> None:
        listen = ["--hostname", "127.0.0.1", "--port", "0", "--grpc-port", "0"]
        self.process = subprocess.Popen(
            runtime_command("serve", *listen, *arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**environment(*folders), **variables},
            text=True,
        )
        self.output: list[str] = []
        """Lines that `wait_for` has passed."""
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def wait_for(self, pattern: str, seconds: float = START_SECONDS) -> str:
        """Read on to the next line that matches, and return the match: its group when it has one."""
        deadline = time.monotonic() + seconds
        with suppress(queue.Empty):
            while (line := self._lines.get(timeout=max(0.0, deadline - time.monotonic()))) is not None:
                self.output.append(line)
                if match := re.search(pattern, line):
                    return match[match.re.groups]
        raise AssertionError(f"the server did not say {pattern!r}:\n" + "\n".join(self.output))

    def wait_until_ready(self) -> None:
        """Wait for the line that the guide names, and learn the addresses on the way."""
        self.http = self.wait_for(r"HTTP on (https?://[^\s\"]+)")
        self.grpc = self.wait_for(r"gRPC on (?!unix:)([^\s\"]+)")
        self.wait_for("Connected")

    @property
    def worker(self) -> int:
        """Process id of the worker."""
        (worker,) = children(self.process.pid)
        return worker

    @property
    def tracebacks(self) -> int:
        """How many were logged, but for those of backends that were told to fail."""
        told_to_fail = sum(": told to fail" in line for line in self.output)
        return sum(line.startswith("Traceback") for line in self.output) - told_to_fail

    def client(self) -> httpx.Client:
        """A client of the HTTP API, which no proxy of the environment comes between."""
        return httpx.Client(base_url=self.http, timeout=ANSWER_SECONDS, trust_env=False)

    def events(self, body: object) -> list[dict[str, Any]]:
        """The server-sent events that /generate_stream answers."""
        with self.client() as http, http.stream("POST", "/generate_stream", json=body) as response:
            assert response.status_code == 200, response.read()
            return [json.loads(line.removeprefix("data:")) for line in response.iter_lines() if line]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the gateway."""
        self.process.send_signal(number)

    def wait(self) -> int:
        """Wait until every process has ended, and return the gateway's exit status.

        Output ends with the last process that could write to it, so a worker left behind is a failure here.
        """
        status = self.process.wait(END_SECONDS)
        self._reader.join(END_SECONDS)
        assert not self._reader.is_alive(), "a process outlived the gateway"
        while (line := self._lines.get_nowait()) is not None:
            self.output.append(line)
        return status

    def kill(self) -> None:
        """End what still runs, whatever its state."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@contextmanager
def serving(
    *arguments: str, folders: Sequence[Path] = (), variables: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Server]:
    """A server that is ready; stopped at the end, which must be in order unless the test ended it."""
    server = Server(arguments, folders, variables)
    try:
        server.wait_until_ready()
        yield server
        if server.process.poll() is None:
            server.signal(signal.SIGTERM)
            assert server.wait() == 0
            assert server.tracebacks == 0, "\n".join(server.output)
    finally:
        server.kill()
