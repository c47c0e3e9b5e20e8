"""What a server tells of its health, and how it ends, with real processes that are stopped, killed and told to end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from runtime.engine import END_SECONDS
from runtime.v1 import generation_pb2, generation_pb2_grpc, messages_pb2
from support.arithmetic import expected
from support.planned import GATE
from support.plugin import install_plugin
from support.processes import ANSWER_SECONDS, Server, environment, runtime_command, serving

QUESTION = "What shape is green?"
BODY = {"inputs": QUESTION, "parameters": {"max_new_tokens": 3}}
REPLY = expected([1, 397, 480, 366, 505, 291], 3)
PROMISED_SECONDS = 2.0
"""After which a worker that is gone shows."""
SLACK_SECONDS = 1.0
"""For a machine that does other things too."""


@contextmanager
def piped(tmp_path: Path, *flags: str) -> Iterator[tuple[Server, int]]:
    """A server each of whose decode steps waits for a byte; and where to write it."""
    os.mkfifo(tmp_path / "gate")
    gate = os.open(tmp_path / "gate", os.O_RDWR)
    folder = install_plugin(tmp_path / "plugins", "piped", "support.piped")
    arguments = ("--backend", "piped", "--model-id", "demo", *flags)
    try:
        with serving(*arguments, folders=[folder], variables={"GATE": str(tmp_path / "gate")}) as server:
            yield server, gate
    finally:
        os.close(gate)


def ready(http: httpx.Client) -> httpx.Response:
    return http.get("/readyz")


def seconds_until(wanted: Callable[[], bool]) -> float:
    """How long it takes until this is so."""
    began = time.monotonic()
    while not wanted():
        assert time.monotonic() - began < ANSWER_SECONDS
    return time.monotonic() - began


def tokens(events: Iterator[str]) -> Iterator[dict[str, Any]]:
    """The events of a stream."""
    return (json.loads(line.removeprefix("data:")) for line in events if line)


def reply(server: Server) -> list[int]:
    return [event["token"]["id"] for event in server.events(BODY)]


def test_stopped_worker(arithmetic_plugin: Path) -> None:
    """Not ready in two seconds while the gateway lives; ready again when it goes on."""
    with serving("--backend", "arithmetic", "--model-id", "demo", folders=[arithmetic_plugin]) as server:
        worker = server.worker
        with server.client() as http:
            assert (ready(http).status_code, ready(http).content) == (200, b"")
            os.kill(worker, signal.SIGSTOP)
            try:
                assert seconds_until(lambda: ready(http).status_code == 503) < PROMISED_SECONDS + SLACK_SECONDS
                body = {"error": "the worker does not answer", "error_type": "healthcheck"}
                assert ready(http).json() == http.get("/health").json() == http.get("/ping").json() == body
                assert http.get("/livez").status_code == 200
                assert http.post("/generate", json=BODY).status_code == 503
                with grpc.insecure_channel(server.grpc) as channel:
                    told = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
                assert told.status == health_pb2.HealthCheckResponse.NOT_SERVING
            finally:
                os.kill(worker, signal.SIGCONT)
            seconds_until(lambda: ready(http).status_code == 200)
        assert server.worker == worker
        assert reply(server) == REPLY


def test_killed_worker(arithmetic_plugin: Path) -> None:
    """Not ready at once, and ready when the next one serves."""
    with serving("--backend", "arithmetic", "--model-id", "demo", folders=[arithmetic_plugin]) as server:
        with server.client() as http:
            os.kill(server.worker, signal.SIGKILL)
            assert seconds_until(lambda: ready(http).status_code == 503) < PROMISED_SECONDS + SLACK_SECONDS
            assert http.get("/livez").status_code == 200
            seconds_until(lambda: ready(http).status_code == 200)
        assert reply(server) == REPLY


@pytest.mark.proves("--step-timeout")
def test_stuck_worker_is_restarted(tmp_path: Path) -> None:
    """One whose step does not end is killed, and another serves."""
    with piped(tmp_path, "--step-timeout", "1") as (server, gate), server.client() as http:
        stuck = server.worker
        with http.stream("POST", "/generate_stream", json=BODY) as response:
            events = tokens(response.iter_lines())
            assert next(events)["token"]["id"] == REPLY[0]
            server.wait_for(r"the worker is stuck: the device is in the same step for \d+ s; killing it")
            assert ready(http).status_code == 503
            os.write(gate, b"x" * 20)  # what the next worker reads
            server.wait_for("Connected")
        assert server.worker != stuck
        assert ready(http).status_code == 200


@pytest.mark.proves("--drain-seconds")
def test_running_reply_ends_whole(tmp_path: Path) -> None:
    """SIGTERM: not ready first, new requests are refused, the stream runs to its end, and so does the server."""
    with piped(tmp_path) as (server, gate), server.client() as http, server.client() as other:
        with http.stream("POST", "/generate_stream", json=BODY) as response:
            events = tokens(response.iter_lines())
            told = [next(events)["token"]["id"]]
            server.signal(signal.SIGTERM)
            seconds_until(lambda: ready(other).status_code == 503)
            assert ready(other).json() == {"error": "the server is stopping", "error_type": "healthcheck"}
            assert other.get("/livez").status_code == 200
            refused = other.post("/generate", json=BODY)
            assert (refused.status_code, refused.json()["error_type"]) == (503, "unavailable")
            os.write(gate, b"xx")
            told += [event["token"]["id"] for event in events]
        assert told == REPLY
        assert server.wait() == 0
        assert server.tracebacks == 0


def test_reply_that_outlives_its_time(tmp_path: Path) -> None:
    """It ends with an error, and the server in order."""
    with piped(tmp_path, "--drain-seconds", "0.2") as (server, gate), server.client() as http:
        with http.stream("POST", "/generate_stream", json=BODY) as response:
            events = tokens(response.iter_lines())
            assert "token" in next(events)
            server.signal(signal.SIGTERM)
            assert next(events)["error_type"] == "unavailable"
        os.write(gate, b"xx")
        assert server.wait() == 0
        assert server.tracebacks == 0


def test_second_signal_ends_at_once(tmp_path: Path) -> None:
    """Nothing is waited for, not even a step that does not end."""
    with piped(tmp_path) as (server, _gate), server.client() as http, server.client() as other:
        with http.stream("POST", "/generate_stream", json=BODY) as response:
            next(tokens(response.iter_lines()))
            server.signal(signal.SIGTERM)
            seconds_until(lambda: ready(other).status_code == 503)
            began = time.monotonic()
            server.signal(signal.SIGTERM)
            server.wait()
        assert time.monotonic() - began < 3 + SLACK_SECONDS


def test_end_in_the_warm_up(tmp_path: Path) -> None:
    """In order and soon, even within a shape that does not end; alive and not ready until then."""
    os.mkfifo(tmp_path / "gate")
    folder = install_plugin(tmp_path / "plugins", "planned", "support.planned")
    flags = ("--backend", "planned", "--model-id", "demo", "--max-total-tokens", "200", "--max-batch-size", "4")
    server = Server(flags, [folder], {GATE: str(tmp_path / "gate")})
    try:
        server.http = server.wait_for(r"HTTP on (http://[^\s\"]+)")
        server.wait_for("warming up: 0 of")
        gate = os.open(tmp_path / "gate", os.O_WRONLY)  # opens when the backend waits at the other end
        with server.client() as http:
            seconds_until(lambda: "warming up: 2 of" in ready(http).text)
            assert ready(http).status_code == 503
            assert int(ready(http).headers["retry-after"]) > 0
            assert http.get("/livez").status_code == 200
        began = time.monotonic()
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert time.monotonic() - began < END_SECONDS + 3 + SLACK_SECONDS
        assert server.tracebacks == 0
        os.close(gate)
    finally:
        server.kill()


def test_worker_alone_drains_too(tmp_path: Path) -> None:
    """It is not ready any more while its reply runs to the end."""
    os.mkfifo(tmp_path / "gate")
    gate = os.open(tmp_path / "gate", os.O_RDWR)
    folder = install_plugin(tmp_path / "plugins", "piped", "support.piped")
    address = f"unix:{tmp_path / 'w'}"
    worker = subprocess.Popen(
        runtime_command("worker", "--listen", address, "--backend", "piped", "--model-id", "demo"),
        env={**environment(folder), "GATE": str(tmp_path / "gate")},
    )
    try:
        with grpc.insecure_channel(address) as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), wait_for_ready=True)
            while next(watch).status != health_pb2.HealthCheckResponse.SERVING:
                pass
            parameters = messages_pb2.StoppingCriteriaParameters(max_new_tokens=3)
            request = messages_pb2.Request(inputs=QUESTION, stopping_parameters=parameters)
            stub = generation_pb2_grpc.GenerationStub(channel)
            deltas = stub.Generate(generation_pb2.GenerateRequest(request=request))
            told = [*next(deltas).delta.tokens.ids]
            worker.send_signal(signal.SIGTERM)
            assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
            with pytest.raises(grpc.RpcError) as refused:
                next(stub.Generate(generation_pb2.GenerateRequest(request=request)))
            assert refused.value.details() == "the model is not served now: the server is stopping"
            os.write(gate, b"xx")
            told += [id for response in deltas for id in response.delta.tokens.ids]
        assert told == REPLY
        assert worker.wait(ANSWER_SECONDS) == 0
    finally:
        worker.kill()
        worker.wait()
        os.close(gate)
