"""The supervisor, with small shell programs in the worker's place."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from runtime.availability import Availability
from runtime.errors import NotReady, StartupError, WorkerFailed
from runtime.runtime import Health, Readiness
from runtime.serve import monitor
from runtime.serve import supervisor as module
from runtime.serve.monitor import Monitor
from runtime.serve.supervisor import Supervisor
from support.scripted import ScriptedRuntime

pytestmark = pytest.mark.anyio

SERVES = "touch ready; exec cat"
"""Like a worker, it ends when its standard input does."""
LOADS = "exec cat"
FAILS = "exit 3"
IS_KILLED = "kill -KILL $$"
IGNORES_SIGTERM = f"trap '' TERM; {SERVES}"
SECONDS = 20


class Workers(ScriptedRuntime):
    """Starts these programs one after the other in place of the worker, and is the client of each of them."""

    supervisor: Supervisor

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.programs: list[str] = []
        self.commands: list[tuple[str, ...]] = []
        self.changes: asyncio.Queue[Readiness] = asyncio.Queue()
        self.restarts: list[str] = []
        self.busy_seconds = 0.0
        self.pauses: list[float] = []
        self.polled_twice = asyncio.Event()
        self._polls = 0
        self._ready = folder / "ready"
        self._really_start = asyncio.create_subprocess_exec
        self._really_sleep = asyncio.sleep
        monkeypatch.setattr(asyncio, "create_subprocess_exec", self._start)
        monkeypatch.setattr(asyncio, "sleep", self._sleep)

    async def health(self) -> Health:
        self._polls += 1
        if self._polls == 2:
            self.polled_twice.set()
        if not self._ready.exists():
            raise NotReady("nobody listens")
        return Health(Readiness.READY, busy_seconds=self.busy_seconds)

    async def changed(self, health: Health) -> None:
        self.changes.put_nowait(health.readiness)

    async def next_change(self) -> Readiness:
        return await asyncio.wait_for(self.changes.get(), SECONDS)

    async def _start(self, *command: str, **options: Any) -> asyncio.subprocess.Process:
        self._ready.unlink(missing_ok=True)
        self.busy_seconds = 0.0
        self.commands.append(command)
        self.process = await self._really_start("sh", "-c", self.programs.pop(0), cwd=self._ready.parent, **options)
        return self.process

    async def _sleep(self, seconds: float) -> None:
        if seconds not in (monitor.POLL_SECONDS, monitor.STARTING_POLL_SECONDS, module.PROGRESS_SECONDS):
            self.pauses.append(seconds)
        await self._really_sleep(0.001)


@pytest.fixture
def workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workers:
    """No programs yet."""
    return Workers(tmp_path, monkeypatch)


@asynccontextmanager
async def supervising(workers: Workers, *programs: str) -> AsyncIterator[asyncio.Task[None]]:
    """A supervisor at work; cancelled at the end, after which its last worker is gone."""
    workers.programs = list(programs)
    availability = Availability()
    watching = Monitor(workers, availability, 60, workers.changed)
    workers.supervisor = Supervisor(["worker", "--flag"], watching, availability, workers.restarts.append)
    running = asyncio.ensure_future(workers.supervisor.run())
    try:
        yield running
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert workers.process.returncode is not None


async def test_worker_is_started_and_stopped(workers: Workers) -> None:
    """As a command of this interpreter, in a session of its own; ended by SIGTERM."""
    async with supervising(workers, SERVES):
        assert await workers.next_change() is Readiness.READY
        assert workers.commands == [(sys.executable, "-m", "runtime", "worker", "--flag")]
        assert os.getsid(workers.process.pid) == workers.process.pid
    assert workers.process.returncode == -15


async def test_worker_that_cannot_start_is_not_restarted(workers: Workers) -> None:
    """It has said why itself."""
    async with supervising(workers, FAILS) as running:
        with pytest.raises(WorkerFailed):
            await asyncio.wait_for(running, SECONDS)
    assert workers.changes.empty()


async def test_worker_killed_while_it_loads_is_told(workers: Workers) -> None:
    """It could not say so itself; short memory is the usual reason."""
    async with supervising(workers, IS_KILLED) as running:
        with pytest.raises(StartupError) as error:
            await asyncio.wait_for(running, SECONDS)
    assert error.value.message == "the worker was killed by SIGKILL while it loaded the model"
    assert not isinstance(error.value, WorkerFailed)


async def test_dead_worker_is_restarted(workers: Workers, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever listens hears that it is gone and that it is back."""
    async with supervising(workers, SERVES, SERVES):
        assert await workers.next_change() is Readiness.READY
        workers.process.kill()
        assert await workers.next_change() is Readiness.LOADING
        assert await workers.next_change() is Readiness.READY
    assert len(workers.commands) == 2
    assert workers.restarts == ["ended"]
    assert caplog.messages == ["the worker ended with status -9; restarting it in 1 s"]


async def test_stuck_worker_is_killed_and_restarted(workers: Workers, caplog: pytest.LogCaptureFixture) -> None:
    """Even one that heeds no other signal."""
    async with supervising(workers, IGNORES_SIGTERM, SERVES):
        assert await workers.next_change() is Readiness.READY
        stuck = workers.process
        workers.busy_seconds = 61
        assert await workers.next_change() is Readiness.FAILED
        assert await workers.next_change() is Readiness.LOADING
        assert await workers.next_change() is Readiness.READY
    assert stuck.returncode == -9
    assert workers.restarts == ["stuck"]
    assert caplog.messages == [
        "the worker is stuck: the device is in the same step for 61 s; killing it",
        "the worker ended with status -9; restarting it in 1 s",
    ]


async def test_pauses_between_restarts_grow(workers: Workers) -> None:
    """They double up to a limit, and begin anew once a worker served."""
    async with supervising(workers, SERVES, *[FAILS] * 6, SERVES, SERVES):
        assert await workers.next_change() is Readiness.READY
        for _ in range(2):
            workers.process.kill()
            assert await workers.next_change() is Readiness.LOADING
            assert await workers.next_change() is Readiness.READY
    assert workers.pauses == [1, 2, 4, 8, 16, 30, 30, 1]


async def test_long_loading_is_told(workers: Workers, caplog: pytest.LogCaptureFixture) -> None:
    """So that the operator sees that it is alive."""
    caplog.set_level("INFO")
    async with supervising(workers, LOADS):
        await asyncio.wait_for(workers.polled_twice.wait(), SECONDS)
    assert caplog.messages[0] == "still loading after 0 s"
    assert workers.process.returncode == -15


async def test_warm_up_is_left_to_the_worker_to_tell(
    workers: Workers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Once it does, nobody else does."""
    states = [*[Readiness.LOADING] * 2, *[Readiness.WARMING] * 9]
    polled = asyncio.Event()

    async def health() -> Health:
        if len(states) == 1:
            polled.set()
        return Health(states.pop(0) if len(states) > 1 else states[0])

    caplog.set_level("INFO")
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=itertools.count(0.0, 3.0).__next__))
    monkeypatch.setattr(workers, "health", health)
    async with supervising(workers, LOADS):
        assert await workers.next_change() is Readiness.WARMING
        told = list(caplog.messages)
        await asyncio.wait_for(polled.wait(), SECONDS)
    assert caplog.messages == told
    assert workers.changes.empty()


async def test_worker_is_killed_in_haste(workers: Workers) -> None:
    """Not after its time to end in order."""
    async with supervising(workers, IGNORES_SIGTERM) as running:
        assert await workers.next_change() is Readiness.READY
        running.cancel()
        workers.supervisor.kill()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(running, SECONDS)
    assert workers.process.returncode == -9


async def test_worker_that_does_not_stop_is_killed(
    workers: Workers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After its time to end in order."""
    monkeypatch.setattr(module, "STOP_SECONDS", 0.05)
    async with supervising(workers, IGNORES_SIGTERM):
        assert await workers.next_change() is Readiness.READY
    assert workers.process.returncode == -9
    assert caplog.messages == ["the worker did not end within 0.05 s; killing it"]
