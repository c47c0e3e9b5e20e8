"""What is told of a worker that answers, is busy, hangs or is gone; time passes only when the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from runtime.availability import Availability
from runtime.errors import NotReady
from runtime.runtime import Health, Readiness
from runtime.serve import monitor as module
from runtime.serve.monitor import Monitor
from support.scripted import ScriptedRuntime

pytestmark = pytest.mark.anyio

READY = Health(Readiness.READY)
GONE = NotReady("nobody listens")
SECONDS = 20


class Watched(ScriptedRuntime):
    """A worker that answers what the test wants, under a monitor with a clock of its own."""

    def __init__(self, step_timeout: float = 60.0) -> None:
        super().__init__()
        self.answer: Health | Exception | None = GONE
        """None hangs."""
        self.meanwhile: Callable[[], None] = lambda: None
        """Happens while the answer is on its way."""
        self.now = 100.0
        self.availability = Availability()
        self.changes: list[Readiness] = []
        self.monitor = Monitor(self, self.availability, step_timeout, self._changed, lambda: self.now)

    async def health(self) -> Health:
        self.meanwhile()
        if self.answer is None:
            await asyncio.Event().wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        assert self.answer is not None
        return self.answer

    async def look(self, answer: Health | Exception | None) -> str:
        """Look once at a worker that answers this."""
        self.answer = answer
        return await self.monitor.look()

    @property
    def told(self) -> tuple[Readiness, str]:
        return self.availability.health.readiness, self.availability.health.message

    async def _changed(self, health: Health) -> None:
        self.changes.append(health.readiness)


@pytest.fixture(autouse=True)
def _short_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that hangs is not waited for: its deadline has passed already."""
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.001)


async def test_start_of_a_worker() -> None:
    """Whoever asks hears of every stage, and listeners of each once."""
    watched = Watched()
    await watched.monitor.started()
    assert watched.told == (Readiness.LOADING, "the worker is starting")
    for health in (
        Health(Readiness.LOADING, "loading the model"),
        Health(Readiness.WARMING, "warming up: 1 of 9 shapes", seconds_left=8.0),
        Health(Readiness.WARMING, "warming up: 2 of 9 shapes", seconds_left=7.0),
        READY,
        READY,
    ):
        assert await watched.look(health) == ""
        assert watched.availability.health == health
    assert watched.changes == [Readiness.WARMING, Readiness.READY]
    assert watched.monitor.has_served


async def test_deadlines_make_two_seconds() -> None:
    """A worker that hangs right after an answer is known in time."""
    assert module.POLL_SECONDS + 1.0 < 2


@pytest.mark.parametrize("silence", [GONE, None])
async def test_worker_that_does_not_answer(silence: Exception | None) -> None:
    """Not ready at once, ready again with the next answer; after the timeout it is stuck."""
    watched = Watched(step_timeout=60)
    await watched.look(READY)
    assert await watched.look(silence) == ""
    assert watched.told == (Readiness.FAILED, "the worker does not answer")
    await watched.look(READY)
    assert watched.availability.is_ready
    watched.now += 60
    assert await watched.look(silence) == ""
    watched.now += 1
    assert await watched.look(silence) == "the worker does not answer for 61 s"
    assert watched.changes == [Readiness.READY, Readiness.FAILED, Readiness.READY, Readiness.FAILED]


@pytest.mark.parametrize("readiness", [Readiness.READY, Readiness.FAILED])
async def test_worker_in_one_step(readiness: Readiness) -> None:
    """Ready while it may still end; stuck after, whatever else it says."""
    watched = Watched(step_timeout=60)
    await watched.look(READY)
    assert await watched.look(Health(readiness, "", busy_seconds=60)) == ""
    assert watched.told == (readiness, "")
    assert await watched.look(Health(readiness, "", busy_seconds=60.6)) == "the device is in the same step for 61 s"
    assert watched.told == (Readiness.FAILED, "the device is in the same step for 61 s")
    await watched.look(READY)  # nobody killed it, and it went on
    assert watched.availability.is_ready


async def test_worker_that_starts_is_never_stuck() -> None:
    """Loading and warming take what they take, and silence belongs to it."""
    watched = Watched(step_timeout=1)
    await watched.monitor.started()
    told = Health(Readiness.WARMING, "warming up: 2 of 9 shapes, at the next shape for 900 s", busy_seconds=900)
    assert await watched.look(told) == ""
    watched.now += 900
    assert await watched.look(None) == await watched.look(GONE) == ""
    assert watched.availability.health == told


async def test_no_timeout() -> None:
    """With 0 no worker is ever stuck, and yet one that does not answer is not ready."""
    watched = Watched(step_timeout=0)
    await watched.look(READY)
    assert await watched.look(Health(Readiness.READY, busy_seconds=9999)) == ""
    assert watched.availability.is_ready
    watched.now += 9999
    assert await watched.look(None) == ""
    assert not watched.availability.is_ready


async def test_next_worker_starts_anew() -> None:
    """What the last one did does not count."""
    watched = Watched(step_timeout=60)
    await watched.look(READY)
    await watched.monitor.ended()
    assert watched.told == (Readiness.LOADING, "the worker ended; it is being restarted")
    await watched.monitor.started()
    watched.now += 600
    assert await watched.look(GONE) == ""
    assert watched.told == (Readiness.LOADING, "the worker is starting")
    assert not watched.monitor.has_served


async def test_device_that_fails_is_told() -> None:
    """What an idle probe found; of a worker that could not start nothing, for it ends and says why itself."""
    watched = Watched()
    failing = Health(Readiness.FAILED, "the device fails: told to")
    await watched.look(failing)
    assert watched.told[0] is Readiness.LOADING
    await watched.look(READY)
    watched.now += 600  # it answers, whatever it says
    await watched.look(failing)
    assert watched.availability.health == failing
    assert await watched.look(None) == ""


async def test_a_server_that_stops_stays_so() -> None:
    """Whatever the worker does meanwhile."""
    watched = Watched()
    await watched.look(READY)
    await watched.monitor.stopping()
    await watched.look(READY)
    await watched.monitor.ended()
    assert watched.told == (Readiness.STOPPING, "the server is stopping")
    assert watched.changes == [Readiness.READY, Readiness.STOPPING]


async def test_it_watches_until_the_worker_is_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    """Often until it serves, then less."""
    watched = Watched(step_timeout=60)
    answers: list[Health | Exception] = [
        GONE,
        Health(Readiness.LOADING),
        READY,
        READY,
        Health(Readiness.READY, busy_seconds=61),
    ]
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        watched.answer = answers.pop(0)

    watched.answer = answers.pop(0)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    reason = await asyncio.wait_for(watched.monitor.watch(), SECONDS)
    assert reason == "the device is in the same step for 61 s"
    assert pauses == [module.STARTING_POLL_SECONDS] * 2 + [module.POLL_SECONDS] * 2


async def test_answer_from_before_a_failure() -> None:
    """A reply that breaks off tells that the worker is gone; its last answer does not make it ready again."""
    watched = Watched()
    await watched.look(READY)
    gone = Health(Readiness.LOADING, "the worker is gone")
    watched.meanwhile = lambda: watched.availability.tell(gone)
    await watched.look(READY)
    assert watched.availability.health == gone
    watched.meanwhile = lambda: None
    await watched.look(READY)
    assert watched.availability.is_ready
