"""`pytest --pyargs runtime.conformance`, in a process and a folder of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from support import processes
from support.plugin import install_plugin

PLUGIN = "runtime.conformance.pytest_plugin"
"""What an installed vlm-runtime names to pytest; named here, because the sources need not be installed."""

BROKEN = """
from runtime import hookimpl
from support.broken import Plain, found

@hookimpl
def runtime_backends():
    return [found(Plain, ">=1.0").spec]
"""


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", PLUGIN, "-p", "no:cacheprovider", "--pyargs", "-q", *words]
    return subprocess.run(
        command, cwd=folder, env=processes.environment(folder), capture_output=True, text=True, timeout=280, check=False
    )


def test_checks_are_tests(tmp_path: Path) -> None:
    """Chosen with -k like others; one that is waived is skipped, with its reason."""
    done = run(
        tmp_path,
        *(
            "runtime.conformance",
            "--backend",
            "cpu",
            "--backend-option",
            "dtype=float32",
            "-k",
            "spec or slots or stats",
        ),
        *("--waive", "stats=measured by another team", "-rs"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed, 1 skipped" in done.stdout
    assert "waived: measured by another team" in done.stdout


def test_failed_check_explains_itself(tmp_path: Path) -> None:
    """With what it proves and what usually breaks it."""
    install_plugin(tmp_path, "broken", "broken_plugin", BROKEN)
    done = run(tmp_path, "runtime.conformance", "--backend", "broken", "-k", "spec")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "the contract '>=1.0' includes 2.0" in done.stdout
    assert "usually broken by: A contract such as" in done.stdout


def test_backend_must_be_named(tmp_path: Path) -> None:
    """The error tells how."""
    done = run(tmp_path, "runtime.conformance", "-k", "spec")
    assert done.returncode != 0
    assert "name the backend: pytest --pyargs runtime.conformance --backend NAME" in done.stdout + done.stderr


def test_other_sessions_have_none_of_it(tmp_path: Path) -> None:
    """The plugin is loaded in every session of the environment, and adds its options to those of the kit only."""
    done = run(tmp_path, "--backend", "cpu")
    assert "unrecognized arguments: --backend" in done.stderr
