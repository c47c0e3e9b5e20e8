"""How the two processes start, stop and outlive each other."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Sequence
from pathlib import Path

from support.arithmetic import LOST, expected
from support.processes import START_SECONDS, Server, serving

ARGUMENTS = ("--backend", "arithmetic", "--model-id", "demo")
BODY = {"inputs": "What shape is green?", "parameters": {"max_new_tokens": 3}}
REPLY = expected([1, 397, 480, 366, 505, 291], 3)


def reply(server: Server) -> Sequence[int]:
    """The token ids of the reply to a question."""
    return [event["token"]["id"] for event in server.events(BODY)]


def loopback() -> str:
    """The address of this machine in version 6 where there is one."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return "127.0.0.1"
    return "::1"


def test_ctrl_c_stops_both_processes(arithmetic_plugin: Path) -> None:
    """In order: status 0, no traceback, nothing left behind. SIGTERM is how `serving` ends every other server."""
    with serving(*ARGUMENTS, "--hostname", loopback(), folders=[arithmetic_plugin]) as server:
        assert reply(server) == REPLY
        server.signal(signal.SIGINT)
        assert server.wait() == 0
    assert server.output[-1].endswith("stopping")
    assert server.tracebacks == 0


def test_killed_worker_is_restarted(arithmetic_plugin: Path) -> None:
    """Health tells the truth meanwhile; requests work again after."""
    with serving(*ARGUMENTS, folders=[arithmetic_plugin]) as server, server.client() as http:
        assert http.get("/health").status_code == 200
        killed = server.worker
        os.kill(killed, signal.SIGKILL)
        server.wait_for("the worker ended with status -9; restarting it in 1 s")
        assert http.get("/health").status_code == 503
        refusal = http.post("/generate", json=BODY)
        assert (refusal.status_code, refusal.json()["error_type"]) == (503, "unavailable")
        server.wait_for("Connected")
        assert http.get("/health").status_code == 200
        assert server.worker != killed
        assert reply(server) == REPLY


def test_worker_that_lost_its_device_is_restarted(arithmetic_plugin: Path) -> None:
    """It ends by itself; a request that loses the device every time is given up after three, and others work again."""
    losing = {"inputs": str(LOST), "parameters": {"max_new_tokens": 3}}
    with serving(*ARGUMENTS, "--skip-tokenizer", folders=[arithmetic_plugin]) as server, server.client() as http:
        refusal = http.post("/generate", json=losing, timeout=START_SECONDS)
        assert (refusal.status_code, refusal.json()["error_type"]) == (424, "generation")
        assert "failed 3 times" in refusal.json()["error"]
        for _ in range(3):
            server.wait_for("the worker ended with status 1; restarting it in 1 s")
        server.wait_for("Connected")
        assert http.post("/generate", json={**losing, "inputs": "1,500"}).status_code == 200


def test_killed_gateway_takes_the_worker_along(arithmetic_plugin: Path) -> None:
    """The worker notices that nobody holds its standard input."""
    with serving(*ARGUMENTS, folders=[arithmetic_plugin]) as server:
        server.signal(signal.SIGKILL)
        assert server.wait() == -signal.SIGKILL
    assert server.tracebacks == 0
