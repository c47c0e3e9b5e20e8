"""A worker that is hurt in the middle of streams: their clients see a pause, and then what they would have seen.

Eight streams run, half of them sampled; their texts are compared, byte for byte, with those of an undisturbed run.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from runtime.telemetry.gateway import GatewayMetrics
from support.chaos import Hurt
from support.scrape import read_scrape
from support.streams import Streams, read, sound

pytestmark = pytest.mark.anyio

LENGTH = 60
BODIES: list[dict[str, Any]] = [
    {
        "inputs": f"What shape is {colour}?",
        "parameters": {"max_new_tokens": LENGTH} | ({"seed": 7, "temperature": 2.5} if drawn else {}),
    }
    for colour in ("green", "red", "blue", "black")
    for drawn in (False, True)
]
ENDS_THE_WORKER = ("abort", "leave", "lose the device")
LIKE_THESE = (*ENDS_THE_WORKER, "stop", "run out of memory", "wrong shape", "no numbers")
"""Much like to be killed, to hang and to fail."""
GATEWAY = read_scrape(GatewayMetrics().exposition())


@pytest.fixture(scope="module")
def undisturbed(hurt: Hurt) -> list[str | None]:
    """The texts that must come, whatever happens."""
    streams = asyncio.run(read(hurt.server.http, BODIES))
    assert [len(stream.ids) for stream in streams] == [LENGTH] * len(BODIES)
    return sound(streams)


def counts(hurt: Hurt) -> dict[str, float]:
    """What the gateway's metrics say."""
    with hurt.server.client() as http:
        lines = http.get("/metrics").text.splitlines()
    numbers = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}
    return {name: number for name, number in numbers.items() if name.partition("{")[0] in GATEWAY}


@pytest.mark.parametrize(
    "harm",
    [
        *("kill", "hang", "fail"),
        *(pytest.param(harm, marks=pytest.mark.long) for harm in LIKE_THESE),
    ],
)
async def test_harm_in_a_decode(hurt: Hurt, undisturbed: list[str | None], harm: str) -> None:
    """All streams are in the step that is hurt; the metrics, which outlive the workers, tell."""
    before = counts(hurt)
    async with Streams(hurt.server.http, BODIES) as streams:
        await streams.have(10)
        hurt.order("decode", harm)
        await streams.end()
        assert sound(streams.all) == undisturbed
    told = {name: count - before[name] for name, count in counts(hurt).items() if name in before}
    assert told["runtime_replies_resumed_total"] == (0 if harm == "pause" else len(BODIES))
    assert told["runtime_tokens_replayed_total"] >= 10 * told["runtime_replies_resumed_total"]
    assert told['runtime_worker_restarts_total{reason="ended"}'] == (harm in ("kill", *ENDS_THE_WORKER))
    assert told['runtime_worker_restarts_total{reason="stuck"}'] == (harm in ("hang", "stop"))


@pytest.mark.parametrize("harm", ["kill", *(pytest.param(harm, marks=pytest.mark.long) for harm in ("hang", "fail"))])
async def test_harm_in_a_prefill(hurt: Hurt, undisturbed: list[str | None], harm: str) -> None:
    """Some streams run, others have no token yet."""
    async with Streams(hurt.server.http, BODIES[:4]) as running:
        await running.have(5)
        hurt.order("prefill", harm)
        async with Streams(hurt.server.http, BODIES[4:]) as coming:
            await asyncio.gather(running.end(), coming.end())
            assert sound(running.all + coming.all) == undisturbed


@pytest.mark.long
async def test_worker_that_dies_again_and_again(hurt: Hurt, undisturbed: list[str | None]) -> None:
    """As often as it likes, while the streams make progress between."""
    async with Streams(hurt.server.http, BODIES) as streams:
        for _ in range(3):
            await streams.grow(5)
            hurt.order("decode", "kill")
        await streams.end()
        assert sound(streams.all) == undisturbed


async def test_slow_step(hurt: Hurt, undisturbed: list[str | None]) -> None:
    """One that takes less than --step-timeout is waited for."""
    before, worker = counts(hurt), hurt.server.worker
    async with Streams(hurt.server.http, BODIES) as streams:
        for _ in range(2):
            await streams.grow(5)
            hurt.order("decode", "pause")
        await streams.end()
        assert sound(streams.all) == undisturbed
    assert (counts(hurt), hurt.server.worker) == (before, worker)


@pytest.mark.long
async def test_worker_that_dies_while_it_loads(hurt: Hurt, undisturbed: list[str | None]) -> None:
    """The streams wait for the worker after the next one, which is started after a longer pause."""
    async with Streams(hurt.server.http, BODIES) as streams:
        await streams.have(3)
        hurt.order("load", "kill")
        hurt.order("decode", "kill")
        for seconds in (1, 2):
            await asyncio.to_thread(hurt.server.wait_for, f"restarting it in {seconds} s")
        await streams.end()
        assert sound(streams.all) == undisturbed


@pytest.mark.long
async def test_poison(hurt: Hurt, undisturbed: list[str | None]) -> None:
    """A prompt that kills every worker is given up with a clear error; its neighbours are not.

    They have so much to compute again that the next worker ends before they get a new token: they are suspects too.
    """
    poison = {"inputs": "What is gold?", "parameters": {"max_new_tokens": 5}}
    async with Streams(hurt.server.http, BODIES) as streams:
        await streams.have(30)
        (refused,) = await read(hurt.server.http, [poison])
        assert refused.error is not None
        assert (refused.status, refused.error["error_type"]) == (424, "generation")
        assert "failed 3 times" in refused.error["error"]
        assert counts(hurt)["runtime_requests_quarantined_total"] == 1
        await streams.end()
        assert sound(streams.all) == undisturbed
