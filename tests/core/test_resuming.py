"""Replies that outlive their worker: what a gateway does when one breaks off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace

import pytest
from runtime.availability import Availability
from runtime.errors import BackendError, DeviceLost, InvalidRequest, NotReady, Quarantined, RuntimeServiceError
from runtime.resuming import MOST_FAILURES, SUSPECT_AFTER, Resumer
from runtime.runtime import (
    Completion,
    Delta,
    FinishReason,
    GenerateRequest,
    Health,
    Readiness,
    Resumption,
    SamplingParameters,
    TextPart,
    Timings,
    Token,
)
from runtime.telemetry.gateway import GatewayMetrics

pytestmark = pytest.mark.anyio

READY = Health(Readiness.READY)
GONE = NotReady("the worker does not answer")
LENGTH = 6
END = Completion("all", FinishReason.LENGTH, LENGTH, 3, None, Timings(0.25, 0.5, 0.001, 0.751))


def request(name: str = "a", seed: int | None = 5) -> GenerateRequest:
    return GenerateRequest(parts=(TextPart(name),), sampling=SamplingParameters(do_sample=True, seed=seed))


class Workers:
    """One after another; each breaks off as the test says, and goes on behind the tokens it is given.

    The tokens of every reply are 0, 1, 2, 3, 4, 5.
    """

    def __init__(self) -> None:
        self.availability = Availability()
        self.availability.tell(READY)
        self.metrics = GatewayMetrics()
        self.resumer = Resumer(self.availability, self.metrics)
        self.asked: list[GenerateRequest] = []
        self.running: set[str] = set()
        """Names of the requests at work."""
        self.beside: list[set[str]] = []
        """Which were at work when each was asked, itself included."""
        self.breaks: Callable[[str, int, int], RuntimeServiceError | None] = lambda name, attempt, step: None
        """By the request's name, how often it was asked before, and the step."""
        self.hangs: Callable[[str, int], bool] = lambda name, attempt: False
        """Whether a worker takes the request and says nothing."""
        self.restarts = True
        """Whether a worker that is gone is back at once."""

    async def attempt(self, asked: GenerateRequest) -> AsyncGenerator[Delta, None]:
        (part,) = asked.parts
        assert isinstance(part, TextPart)
        before = sum(each.parts == asked.parts for each in self.asked)
        self.asked.append(asked)
        if not self.availability.is_ready:  # nobody is there
            raise GONE
        self.running.add(part.text)
        self.beside.append(set(self.running))
        try:
            told = () if asked.resumption is None else asked.resumption.tokens
            assert told == tuple(range(len(told)))
            if self.hangs(part.text, before):
                await asyncio.Event().wait()
            for step in range(LENGTH):
                await asyncio.sleep(0)
                if (error := self.breaks(part.text, before, step)) is not None:
                    if self.restarts:
                        asyncio.get_running_loop().call_soon(self.availability.tell, READY)
                    raise error
                if step >= len(told):
                    token = Token(step, str(step), -1.0, False)
                    digest = "d1" if step == 0 else ""
                    yield Delta((token,), END if step == LENGTH - 1 else None, prompt_digest=digest)
        finally:
            self.running.discard(part.text)

    def generate(self, asked: GenerateRequest) -> AsyncGenerator[Delta, None]:
        return self.resumer.generate(asked, self.attempt)

    async def reply(self, asked: GenerateRequest) -> list[int]:
        return [token.id async for delta in self.generate(asked) for token in delta.tokens]

    def count(self, name: str) -> float:
        lines = self.metrics.exposition().decode().splitlines()
        return float(next(line.split()[1] for line in lines if line.startswith(f"{name} ")))


async def turns() -> None:
    """Let all go on that can."""
    for _ in range(50):
        await asyncio.sleep(0)


@pytest.fixture
def workers() -> Workers:
    return Workers()


async def test_undisturbed_reply_is_passed_on(workers: Workers) -> None:
    """As it was asked, and as it was told."""
    deltas = [delta async for delta in workers.generate(request())]
    assert workers.asked == [request()]
    assert deltas[-1].completion == END
    assert workers.count("runtime_replies_resumed_total") == 0


@pytest.mark.parametrize(
    "error", [GONE, DeviceLost("lost"), BackendError("failed")], ids=lambda error: type(error).__name__
)
async def test_reply_goes_on(workers: Workers, error: RuntimeServiceError) -> None:
    """With another worker, behind the tokens told, of the same prompt; nothing twice and nothing left out."""
    workers.breaks = lambda name, attempt, step: error if attempt == 0 and step == 4 else None
    assert await workers.reply(request()) == list(range(LENGTH))
    assert [asked.resumption for asked in workers.asked] == [None, Resumption((0, 1, 2, 3), "d1")]
    assert workers.count("runtime_replies_resumed_total") == 1
    assert workers.count("runtime_tokens_replayed_total") == 4


async def test_reply_survives_any_number_of_workers(workers: Workers) -> None:
    """As long as each tells something new."""
    workers.breaks = lambda name, attempt, step: GONE if step == attempt + 1 else None
    assert await workers.reply(request()) == list(range(LENGTH))
    assert len(workers.asked) == LENGTH


async def test_request_without_a_token_yet_is_asked_again(workers: Workers) -> None:
    """It waited in a queue, or its prompt was being computed."""
    workers.breaks = lambda name, attempt, step: GONE if attempt == 0 else None
    assert await workers.reply(request()) == list(range(LENGTH))
    assert workers.asked[1].resumption == Resumption()


async def test_seed_outlives_the_worker(workers: Workers) -> None:
    """It is drawn where the reply is kept; a greedy reply needs none."""
    workers.breaks = lambda name, attempt, step: GONE if attempt == 0 and step == 2 else None
    await workers.reply(request(seed=None))
    seeds = [asked.sampling.seed for asked in workers.asked]
    assert seeds[0] is not None
    assert seeds[0] == seeds[1]
    greedy = GenerateRequest(parts=(TextPart("b"),))
    await workers.reply(greedy)
    assert workers.asked[-1].sampling.seed is None


async def test_times_are_those_of_the_whole_reply(workers: Workers) -> None:
    """Not those of the last worker alone."""
    workers.breaks = lambda name, attempt, step: GONE if attempt == 0 and step == 2 else None
    *_, last = [delta async for delta in workers.generate(request())]
    assert last.completion is not None
    timings = last.completion.timings
    assert timings is not None
    assert timings.total == pytest.approx(timings.validation + timings.queue + timings.inference)
    assert timings != END.timings


async def test_other_errors_are_the_request_s(workers: Workers) -> None:
    """They are told at once."""
    workers.breaks = lambda name, attempt, step: InvalidRequest("no")
    with pytest.raises(InvalidRequest, match="no"):
        await workers.reply(request())
    assert len(workers.asked) == 1


async def test_nothing_is_asked_while_no_worker_serves(workers: Workers) -> None:
    """A new request is refused with the reason; only replies that run wait for a worker."""
    workers.availability.tell(Health(Readiness.WARMING, "warming 3 of 8 shapes"))
    with pytest.raises(NotReady, match="warming 3 of 8 shapes"):
        await workers.reply(request())
    assert workers.asked == []


async def test_reply_waits_for_the_next_worker(workers: Workers) -> None:
    """And others learn at once that the worker is gone."""
    workers.restarts = False
    workers.breaks = lambda name, attempt, step: GONE if attempt == 0 and step == 3 else None
    replying = asyncio.ensure_future(workers.reply(request()))
    await turns()
    assert not workers.availability.is_ready
    with pytest.raises(NotReady):
        await workers.reply(request("b"))
    workers.availability.tell(Health(Readiness.WARMING, "warming"))
    await turns()
    assert len(workers.asked) == 1
    workers.availability.tell(READY)
    assert await replying == list(range(LENGTH))


async def test_reply_ends_when_no_worker_comes(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a bounded time, with the reason it broke off."""
    monkeypatch.setattr("runtime.resuming.RESUME_SECONDS", 0.01)
    workers.restarts = False
    workers.breaks = lambda name, attempt, step: GONE
    with pytest.raises(NotReady, match="does not answer"):
        await workers.reply(request())


async def test_reply_ends_with_a_server_that_stops(workers: Workers) -> None:
    """No worker will come."""
    workers.restarts = False
    workers.breaks = lambda name, attempt, step: GONE if step == 3 else None
    replying = asyncio.ensure_future(workers.reply(request()))
    await turns()
    assert not workers.availability.is_ready
    workers.availability.tell(Health(Readiness.STOPPING, "the server is stopping"))
    with pytest.raises(NotReady, match="stopping"):
        await replying


@pytest.mark.parametrize("error", [GONE, BackendError("no such kernel")], ids=["worker", "step"])
async def test_poison_is_given_up(workers: Workers, error: RuntimeServiceError) -> None:
    """A request that fails at one step whatever worker computes it."""
    workers.breaks = lambda name, attempt, step: error if step == 2 else None
    with pytest.raises(Quarantined, match=f"failed {MOST_FAILURES} times.*{error.message}"):
        await workers.reply(request())
    assert len(workers.asked) == MOST_FAILURES
    assert workers.count("runtime_requests_quarantined_total") == 1


@pytest.mark.parametrize("early", [0, 1])
async def test_neighbours_of_poison_are_saved(workers: Workers, early: int) -> None:
    """A suspect is tried beside no other at last, so that the guilty one alone is given up."""

    def breaks(name: str, attempt: int, step: int) -> RuntimeServiceError | None:
        """Poison takes everybody along who is as early as it is."""
        return GONE if step == early and "poison" in workers.running else None

    workers.breaks = breaks
    names = ["a", "b", "poison", "c"]
    outcomes = await asyncio.gather(*(workers.reply(request(name)) for name in names), return_exceptions=True)
    assert [outcome for outcome in outcomes if isinstance(outcome, list)] == [list(range(LENGTH))] * 3
    assert isinstance(outcomes[2], Quarantined)
    assert workers.count("runtime_requests_quarantined_total") == 1


async def test_suspect_waits_for_the_worker_that_another_took_along(workers: Workers) -> None:
    """Its turn comes with a worker, not with the end of the suspect before it."""
    workers.restarts = False
    workers.breaks = lambda name, attempt, step: GONE if name == "poison" or attempt < SUSPECT_AFTER else None
    names = ["poison", "a", "b"]
    replying = asyncio.gather(*(workers.reply(request(name)) for name in names), return_exceptions=True)
    for _ in range(MOST_FAILURES):
        await turns()
        workers.availability.tell(READY)
    poison, *others = await asyncio.wait_for(replying, 5)
    assert isinstance(poison, Quarantined)
    assert others == [list(range(LENGTH))] * 2


async def test_suspect_whose_client_hangs_up(workers: Workers) -> None:
    """Gives its turn to the next."""
    workers.breaks = lambda name, attempt, step: GONE if attempt < MOST_FAILURES - 1 else None
    workers.hangs = lambda name, attempt: name == "a" and attempt == MOST_FAILURES - 1
    suspect, next_suspect = (asyncio.ensure_future(workers.reply(request(name))) for name in "ab")
    await turns()
    assert workers.running == {"a"}
    suspect.cancel()
    with pytest.raises(asyncio.CancelledError):
        await suspect
    assert await next_suspect == list(range(LENGTH))


async def test_client_that_hangs_up_while_no_worker_serves(workers: Workers) -> None:
    """Its request is forgotten."""
    workers.restarts = False
    workers.breaks = lambda name, attempt, step: GONE if attempt == 0 else None
    waiting = asyncio.ensure_future(workers.reply(request()))
    await turns()
    assert len(workers.asked) == 1
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    workers.availability.tell(READY)
    await turns()
    assert len(workers.asked) == 1


async def test_hang_up_closes_the_call(workers: Workers) -> None:
    """Which frees the row."""
    async with aclosing(workers.generate(request())) as stream:
        await anext(stream)
        assert workers.running == {"a"}
    assert workers.running == set()


async def test_clients_cannot_resume(workers: Workers) -> None:
    """For what goes on waits in no line."""
    with pytest.raises(InvalidRequest, match="`resumption`"):
        await workers.reply(replace(request(), resumption=Resumption()))
