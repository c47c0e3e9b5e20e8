"""The virtual HPU for tests: it can be registered once in a process, so that what uses it runs in one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import Final, Literal

import pytest
import torch
from support import processes

Release = Literal["1.17", "1.19", "1.23"]
Mode = Literal["lazy", "eager"]

RELEASES: Final[tuple[Release, ...]] = ("1.17", "1.19", "1.23")
PROFILES: Final = (
    pytest.param("1.17", "lazy", marks=pytest.mark.long),
    ("1.19", "lazy"),
    pytest.param("1.19", "eager", marks=pytest.mark.long),
    pytest.param("1.23", "lazy", marks=pytest.mark.long),
    ("1.23", "eager"),
)
"""Releases and modes; the guide's and the newest are tried in every run of the tests."""
TORCH: Final = "2.13."
"""What the virtual device is made for."""
MEMORY: Final = 2**30
TRACING: Final = "ignore:<class 'torch.autograd.function.Function'> should not be:DeprecationWarning"
"""Dynamo itself causes it, for each kernel that it traces."""
SECONDS: Final = 280

_FOLDER: Final = processes.ROOT / "tests" / "virtual_hpu"
_DROPPED: Final = (
    *("PT_", "HABANA_", "HLS_", "VIRTUAL_HPU_", "EXPERIMENTAL_WEIGHT_SHARING"),
    "TORCH_DEVICE_BACKEND_AUTOLOAD",  # which a command of ours may have set in the process of the tests
)
"""What variables of the vendor's, and of its loading, begin with."""


def environment(
    release: Release = "1.19", mode: Mode | None = "lazy", memory: int = MEMORY, **variables: str
) -> dict[str, str]:
    """What a child process sees: the virtual device of a release, and none of the vendor's variables but these.

    Without a mode it is the default of the release.
    """
    if not torch.__version__.startswith(TORCH):
        pytest.skip(f"the virtual HPU is made for torch {TORCH}x")
    folders = (_FOLDER, _FOLDER / "releases" / release, processes.ROOT / "plugins" / "hpu")
    inherited = processes.environment(*folders)
    chosen = {} if mode is None else {"PT_HPU_LAZY_MODE": "1" if mode == "lazy" else "0"}
    return {
        **{name: value for name, value in inherited.items() if not name.startswith(_DROPPED)},
        "VIRTUAL_HPU_RELEASE": release,
        "VIRTUAL_HPU_MEMORY": str(memory),
        **chosen,
        **variables,
    }


def run_tests(paths: Path | Sequence[Path], release: Release, mode: Mode | None, **variables: str) -> None:
    """Run the tests of files on the virtual device, all in one process, and fail with what they say."""
    files = [str(path) for path in ([paths] if isinstance(paths, Path) else paths)]
    command = [sys.executable, "-m", "pytest", *files, "-q", "-p", "no:cacheprovider", "-W", TRACING]
    done = _run(command, {**environment(release, mode), **variables})
    assert done.returncode == 0, f"on {release} {mode}:\n{done.stdout}\n{done.stderr}"


def run_script(source: str, release: Release, mode: Mode | None, **variables: str) -> str:
    """Run Python code on the virtual device; what it prints."""
    done = _run([sys.executable, "-c", source], {**environment(release, mode), **variables})
    assert done.returncode == 0, f"on {release} {mode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _run(command: list[str], variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=processes.ROOT, env=variables, capture_output=True, text=True, timeout=SECONDS, check=False
    )


class Asked:
    """The virtual device of another process, which was given VIRTUAL_HPU_CONTROL."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def counters(self) -> dict[str, int]:
        """Totals of the counters."""
        self._connection.send(("counters",))
        totals: dict[str, int] = self._connection.recv()
        return totals

    def strike(self, fault: Literal["fatal", "memory"], after: int = 0) -> None:
        """Let an operation fail, this many operations from now."""
        self._connection.send(("strike", fault, after))
        self._connection.recv()


@contextmanager
def asking(address: Path) -> Iterator[Asked]:
    """Talk to the process that uses the device; it must have begun to."""
    with Client(os.fspath(address), family="AF_UNIX") as connection:
        yield Asked(connection)
