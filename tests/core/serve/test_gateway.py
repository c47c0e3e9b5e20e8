"""The gateway in the test's own process and on its event loop, with a worker process of its own."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from runtime.config import Settings
from runtime.serve import gateway
from support.plugin import install_plugin
from support.processes import environment

pytestmark = pytest.mark.anyio

SECONDS = 60
SETTINGS = Settings.of(model_id="demo", backend="piped", hostname="127.0.0.1", port=0, grpc_port=0, drain_seconds=0.1)
LONG = {"inputs": "What shape is green?", "parameters": {"max_new_tokens": 2000}}


class Lines(logging.Handler):
    """The log, line by line as it is written."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.written: asyncio.Queue[str] = asyncio.Queue()

    def emit(self, record: logging.LogRecord) -> None:
        self.written.put_nowait(self.format(record))

    async def after(self, start: str) -> str:
        """Wait for a line that starts like this, and return the rest of it."""
        while not (line := await asyncio.wait_for(self.written.get(), SECONDS)).startswith(start):
            pass
        return line.removeprefix(start)


@pytest.fixture(autouse=True)
async def _signals_as_they_were() -> AsyncIterator[None]:
    """Let Ctrl-C end the tests again."""
    yield
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().remove_signal_handler(number)


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Makes the backend `piped` known to child processes; the end of its pipe to write to."""
    monkeypatch.setenv("PYTHONPATH", environment(install_plugin(tmp_path, "piped", "support.piped"))["PYTHONPATH"])
    monkeypatch.setenv("GATE", str(tmp_path / "gate"))
    os.mkfifo(tmp_path / "gate")
    return os.open(tmp_path / "gate", os.O_RDWR)  # both ends, so that neither side waits for the other to open


async def test_reply_that_outlives_the_drain_ends_with_an_error(gate: int, caplog: pytest.LogCaptureFixture) -> None:
    """The client is told, rather than cut off, and the log has no traceback."""
    caplog.set_level(logging.INFO)
    logging.getLogger().addHandler(lines := Lines())
    running = asyncio.ensure_future(gateway.run_gateway(SETTINGS))
    try:
        url = await lines.after("HTTP on ")
        await lines.after("Connected")
        async with (
            httpx.AsyncClient(base_url=url, timeout=SECONDS, trust_env=False) as http,
            http.stream("POST", "/generate_stream", json=LONG) as response,
        ):
            events = (json.loads(line.removeprefix("data:")) async for line in response.aiter_lines() if line)
            assert (await anext(events))["token"]["id"] == 640
            os.kill(os.getpid(), signal.SIGTERM)
            assert (await anext(events))["error_type"] == "unavailable"
        os.close(gate)  # lets the step at work end, and with it the worker
        await asyncio.wait_for(running, SECONDS)
    finally:
        logging.getLogger().removeHandler(lines)
        running.cancel()
    assert "Traceback" not in caplog.text
