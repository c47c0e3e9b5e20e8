"""Traces of real processes, sent to a collector on loopback, to none, and without the packages."""

from __future__ import annotations

import socket
from pathlib import Path

import grpc
import pytest
from runtime.v1 import generation_pb2, generation_pb2_grpc, messages_pb2
from support.collector import collecting
from support.processes import refused, serving

ARGUMENTS = ("--backend", "arithmetic", "--model-id", "demo")
QUESTION = "What shape is green?"
BODY = {"inputs": QUESTION, "parameters": {"max_new_tokens": 3}}
GENERATE = "runtime.v1.Generation/Generate"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
LOST = "spans lost: "


@pytest.mark.proves("--otlp-endpoint", "--otlp-service-name")
def test_one_trace_of_both_processes(arithmetic_plugin: Path) -> None:
    """The caller's span, the gateway's, the worker's and its stages; all have arrived when the server has ended."""
    with collecting() as collector:
        flags = ("--otlp-endpoint", f"http://{collector.address}", "--otlp-service-name", "eyes")
        with serving(*ARGUMENTS, *flags, folders=[arithmetic_plugin]) as server, server.client() as http:
            assert http.post("/generate", json=BODY, headers={"traceparent": PARENT}).status_code == 200
            assert http.post("/generate_stream", json=BODY).status_code == 200
            assert http.get("/metrics").status_code == 200
            with grpc.insecure_channel(server.grpc) as channel:
                stub = generation_pb2_grpc.GenerationStub(channel)
                request = messages_pb2.Request(inputs=QUESTION)
                request.stopping_parameters.max_new_tokens = 3
                message = generation_pb2.GenerateRequest(request=request)
                list(stub.Generate(message, metadata=(("traceparent", PARENT),)))
    (whole,), (stream,), (rpc,) = (
        collector.named("gateway", name) for name in ("POST /generate", "POST /generate_stream", GENERATE)
    )
    trace, caller = PARENT.split("-")[1:3]
    assert [(span.trace, span.parent) for span in (whole, rpc)] == [(trace, caller)] * 2
    assert (stream.trace != trace, stream.parent) == (True, "")
    for span in (whole, stream, rpc):
        (call,) = collector.below(span)
        assert (call.process, call.name) == ("runtime.worker", GENERATE)
        assert call.attributes["gen_ai.usage.output_tokens"] == 3
        assert [stage.name for stage in collector.below(call)] == ["validation", "queue", "inference"]
    assert len(collector.spans) == 3 * 5
    assert {span.service for span in collector.spans} == {"eyes"}


def test_nobody_collects(arithmetic_plugin: Path) -> None:
    """Requests are served, the log has a line of each process at most, and the server ends in time."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        silent = listener.getsockname()[1]  # takes connections, and never says a word
        with serving(*ARGUMENTS, "--otlp-endpoint", f"127.0.0.1:{silent}", folders=[arithmetic_plugin]) as server:
            for _ in range(3):
                assert len(server.events(BODY)) == 3
    told = [line for line in server.output if LOST in line]
    assert 1 <= len(told) <= 2
    assert not [line for line in server.output if "opentelemetry" in line.lower()]


def test_wrong_endpoint_is_one_line() -> None:
    """Before a worker is started."""
    line = refused("serve", *ARGUMENTS, "--port", "0", "--otlp-endpoint", "localhost")
    assert line.startswith("runtime serve: --otlp-endpoint 'localhost' is no address of a collector; write http://")


def test_missing_packages_are_one_line(tmp_path: Path) -> None:
    """It says what to install."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nsys.modules.update({'opentelemetry.sdk': None, 'opentelemetry.exporter': None})\n"
    )
    line = refused("serve", *ARGUMENTS, "--port", "0", "--otlp-endpoint", "http://127.0.0.1:4317", folders=[tmp_path])
    assert line == "runtime serve: --otlp-endpoint needs packages of opentelemetry: pip install 'vlm-runtime[otlp]'"
