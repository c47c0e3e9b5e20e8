"""A disk that is full. Serving needs none: sockets are made at the start, and the log may be lost.

A model that is fetched from the hub onto a full disk is in `tests/core/model/test_hub.py`.
"""

from __future__ import annotations

import errno
import signal
import socket
import subprocess
import time
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner
from runtime.cli import main
from support.arithmetic import expected
from support.logs import logging_restored
from support.processes import END_SECONDS, START_SECONDS, environment, runtime_command

FULL = "/dev/full"
"""Whatever is written to it, there is no space left."""
BODY = {"inputs": "What shape is green?", "parameters": {"max_new_tokens": 3, "details": True}}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def test_log_that_cannot_be_written(arithmetic_plugin: Path) -> None:
    """Its lines are lost, and nothing else: the server serves and ends."""
    port = free_port()
    arguments = ["--hostname", "127.0.0.1", "--port", str(port), "--model-id", "demo", "--backend", "arithmetic"]
    with open(FULL, "w") as full:  # noqa: PTH123
        server = subprocess.Popen(
            runtime_command("serve", *arguments), stdout=full, stderr=full, env=environment(arithmetic_plugin)
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:
            wait_until_ready(http)
            details = http.post("/generate", json=BODY).json()["details"]
            assert [token["id"] for token in details["tokens"]] == expected([1, 397, 480, 366, 505, 291], 3)
        server.send_signal(signal.SIGTERM)
        server.wait(END_SECONDS)
    finally:
        server.kill()
        server.wait()


def wait_until_ready(http: httpx.Client) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            if http.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:  # it does not listen yet
            assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize("trouble", [errno.ENOSPC, errno.EROFS])
def test_no_room_for_sockets(trouble: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server says so in one line and does not start."""

    def full(*_: object) -> str:
        raise OSError(trouble, "told to fail", "/secret/folder")

    monkeypatch.setattr("tempfile.mkdtemp", full)
    with logging_restored():
        result = CliRunner().invoke(main, ["serve", "--model-id", "demo", "--hostname", "127.0.0.1", "--port", "0"])
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("runtime serve: there is no room for the worker's socket")
    assert "TMPDIR" in line
    assert "secret" not in line
