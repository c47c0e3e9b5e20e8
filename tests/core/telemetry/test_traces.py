"""Whether traces are wanted; what they hold is in test_spans.py."""

from __future__ import annotations

import subprocess
import sys

import pytest
from runtime.errors import NotReady, StartupError
from runtime.telemetry.traces import failed, outgoing, tracing
from support.collector import collecting
from support.processes import environment

SERVICE = "text-generation-inference.router"


def test_without_the_packages_of_the_extra() -> None:
    """Everything else works, and nothing asks for them; FastAPI brings the API of opentelemetry, but no more."""
    code = (
        "import sys; sys.modules.update({'opentelemetry.sdk': None, 'opentelemetry.exporter': None})\n"
        "import runtime.serve.gateway, runtime.serve.worker\n"
        "from runtime.telemetry.traces import tracing\n"
        "with tracing(None, 'service', 'worker') as traces: assert traces is None\n"
        "assert not {'runtime.telemetry.otlp', 'runtime.telemetry.spans'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], env=environment(), check=True)


def test_without_a_request_at_work_nothing_goes_out() -> None:
    """The gateway calls on its own behalf too."""
    failed(NotReady("loading"))
    assert outgoing() == ()


@pytest.mark.parametrize("form", ["http://{}", "http://{}/", "{}"])
def test_spans_arrive(form: str) -> None:
    """At the latest when the process ends, at an address with or without a scheme."""
    with collecting() as collector:
        with tracing(form.format(collector.address), SERVICE, "worker") as traces:
            assert traces is not None
            with traces.call("runtime.v1.Generation/Generate", ()):
                pass
        (span,) = collector.spans
    assert (span.service, span.process) == (SERVICE, "runtime.worker")


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "4317",
        "localhost",
        "http://localhost",
        "grpc://localhost:4317",
        "http://localhost:4317/v1/traces",
        "http://user:key@localhost:4317",
        "http://localhost:4317\n",
        "http://[::1:4317",
        "unix:/tmp/socket",
    ],
)
def test_wrong_endpoint(endpoint: str) -> None:
    """The start stops with one line."""
    with pytest.raises(StartupError, match="write http://HOST:PORT") as caught, tracing(endpoint, SERVICE, "gateway"):
        pass
    assert repr(endpoint) in caught.value.message


def test_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line says how to get it."""
    monkeypatch.setitem(sys.modules, "runtime.telemetry.otlp", None)
    with (
        pytest.raises(StartupError, match=r"pip install 'vlm-runtime\[otlp\]'"),
        tracing("http://127.0.0.1:4317", SERVICE, "gateway"),
    ):
        pass


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4096"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zip"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "long"),
        ("OTEL_SPAN_EVENT_COUNT_LIMIT", "-1"),
    ],
)
def test_wrong_variable_of_opentelemetry(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It refuses them in many ways; here it is one."""
    monkeypatch.setenv(name, value)
    with (
        pytest.raises(StartupError, match="check the environment variables that begin with OTEL_"),
        tracing("http://127.0.0.1:4317", SERVICE, "gateway"),
    ):
        pass
