"""Servers that cannot start say why in one line on standard error and end with status 1."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from runtime.cli import main
from runtime.config import KNOBS
from support.logs import logging_restored
from support.plugin import install_plugin
from support.processes import refused

SERVE = ("serve", "--model-id", "demo", "--hostname", "127.0.0.1", "--port", "0")
WORKER = ("worker", "--model-id", "demo", "--listen", "127.0.0.1:0")


def refused_here(*arguments: str) -> str:
    """As `refused`, but in the process of the test, which has imported already what takes seconds."""
    with logging_restored():
        result = CliRunner(env={knob.environment: None for knob in KNOBS}).invoke(main, arguments)
    assert result.exit_code == 1, result.output
    assert "Traceback" not in result.stdout
    (line,) = result.stderr.splitlines()
    return line


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_missing_model(tmp_path: Path) -> None:
    """The folder's own name is told, not where it is; the gateway adds nothing to the worker's line."""
    line = refused(*SERVE, "--model-id", str(tmp_path / "llava"))
    assert line == "runtime worker: Model llava is not a folder; give the path of a downloaded model."


def test_unsupported_architecture(tmp_path: Path) -> None:
    """The line names it and those that are supported."""
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["BertModel"], "model_type": "bert"}))
    line = refused_here(*WORKER, "--model-id", str(tmp_path))
    assert line.startswith("runtime worker: Model ")
    assert "architecture 'BertModel' is not supported" in line
    assert "LlavaNextForConditionalGeneration" in line


def test_unknown_backend() -> None:
    """The line names those there are."""
    line = refused_here(*WORKER, "--backend", "abacus")
    assert line.startswith("runtime worker: there is no backend 'abacus'; installed: cpu, cpu_reference, ")
    assert line.endswith("; see `runtime backends`")


def test_contradictory_limits() -> None:
    """The line names both values."""
    line = refused_here(*WORKER, "--max-input-tokens", "300", "--max-total-tokens", "200")
    assert line == "runtime worker: --max-input-tokens 300 must be below --max-total-tokens 200"


def test_backend_that_cannot_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A vendor's library that wants to end the process does not get around the line."""
    source = """
from runtime import hookimpl
from runtime.backend import Availability, BackendSpec

def load(model, limits):
    raise SystemExit("no chip found:\\n  slot 7 is empty")

@hookimpl
def runtime_backends():
    return [BackendSpec("chip", "needs a chip", "~=1.0", lambda: Availability(True), load)]
"""
    monkeypatch.syspath_prepend(install_plugin(tmp_path, "chip", "chip_plugin", source))
    line = refused_here(*WORKER, "--backend", "chip")
    told = "runtime worker: backend chip could not load the model: SystemExit: no chip found: slot 7 is empty"
    assert line == told


@pytest.mark.proves("--port")
def test_taken_port(taken_port: int) -> None:
    """Of HTTP; the line names the flags."""
    line = refused_here(*SERVE, "--port", str(taken_port))
    assert line == (
        f"runtime serve: cannot listen on 127.0.0.1:{taken_port}: Address already in use;"
        " choose another --port or --hostname"
    )


@pytest.mark.proves("--grpc-port")
def test_taken_grpc_port(taken_port: int) -> None:
    """Of gRPC, whose library would add lines of its own."""
    line = refused(*SERVE, "--grpc-port", str(taken_port))
    assert line == f"runtime serve: cannot serve gRPC on 127.0.0.1:{taken_port}; is it taken?"
