"""Helper processes that answer questions, one line of JSON each way: what must not share a process with the driver."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from types import TracebackType
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]


class Child:
    """A module run as a process; its `main` calls `answer`."""

    def __init__(self, module: str, threads: int, *arguments: str, pinned: bool) -> None:
        """`pinned` binds the threads that OpenMP makes, the main one too, to one core each."""
        variables = {"OMP_NUM_THREADS": str(threads)}
        cores = sorted(os.sched_getaffinity(0))[:threads]
        if pinned and len(cores) == threads:
            variables["GOMP_CPU_AFFINITY"] = " ".join(map(str, cores))
        self._module = module
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, **variables},
        )

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()  # which ends it
        self._process.wait()

    def ask(self, **question: Any) -> Any:
        """Return the answer; RuntimeError when the process has ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._module} ended without an answer; it has said why")
        return json.loads(line)


def answer(work: Callable[[Mapping[str, Any]], Any]) -> None:
    """Answer every line of standard input; what `work` prints goes to standard error."""
    answers = sys.stdout
    with redirect_stdout(sys.stderr):
        for line in sys.stdin:
            print(json.dumps(work(json.loads(line))), file=answers, flush=True)
