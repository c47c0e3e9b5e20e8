"""A task in a process of its own, whatever becomes of the process."""

from __future__ import annotations

from pathlib import Path

import pytest
from runtime.backend import ModelSpec
from runtime.errors import BackendRefused, StartupError
from runtime.verify.apart import load, perform_apart
from runtime.verify.run import Role, Task
from support.plugin import install_plugin
from support.verifying import LIMITS

PLUGIN = """
import os, signal, sys
from runtime import hookimpl
from runtime.backend import Availability, BackendSpec
from runtime.errors import BackendRefused

def refuse(model, limits): raise BackendRefused("it is too cold")
def fail(model, limits): raise OSError("no chip")
def kill(model, limits): os.kill(os.getpid(), signal.SIGKILL)
def end(model, limits): os._exit(7)
def nothing(model, limits): return object()

@hookimpl
def runtime_backends():
    probe, loads = lambda: Availability(True), (refuse, fail, kill, end, nothing)
    return [BackendSpec(f"odd-{load.__name__}", "odd", "~=1.0", probe, load) for load in loads]
"""


@pytest.fixture(autouse=True)
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(install_plugin(tmp_path, "odd", "odd_endings", PLUGIN))


def task(model: ModelSpec, backend: str, folder: Path) -> Task:
    return Task(backend, model, LIMITS, folder, ("text",), 240, 0, layers=False, plan=None, role=Role.TESTED)


@pytest.mark.parametrize(
    ("backend", "told"),
    [
        ("odd-refuse", "backend odd-refuse could not load the model: it is too cold"),
        ("odd-fail", "backend odd-fail could not load the model: OSError: no chip"),
        ("odd-nothing", "backend odd-nothing has no hook `prefill`; did you forget @hookimpl?"),
    ],
)
def test_backend_that_does_not_load(backend: str, told: str, model: ModelSpec, tmp_path: Path) -> None:
    """Is refused in one line."""
    with pytest.raises(BackendRefused) as refusal:
        load(task(model, backend, tmp_path))
    assert refusal.value.message == told


@pytest.mark.parametrize(
    ("backend", "error", "told"),
    [
        ("odd-refuse", BackendRefused, "it is too cold"),
        ("odd-kill", StartupError, "the process of the backend ended without an answer: it was killed, as a system"),
        ("odd-end", StartupError, "the process of the backend ended without an answer: its exit status is 7"),
    ],
)
def test_end_of_the_process(
    backend: str, error: type[StartupError], told: str, model: ModelSpec, tmp_path: Path
) -> None:
    """Errors come over as they are; an end without an answer is told."""
    with pytest.raises(error, match=told):
        perform_apart(task(model, backend, tmp_path), lambda case: None)
