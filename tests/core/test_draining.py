"""What runs, goes on; what is new, is refused; and the last to end is noticed."""

from __future__ import annotations

import asyncio

import pytest
from runtime.availability import Availability
from runtime.draining import DrainingRuntime
from runtime.errors import NotReady
from runtime.runtime import GenerateRequest, Health, Readiness, TextPart
from support.scripted import ScriptedRuntime, last, token
from support.serving import ids, reply

pytestmark = pytest.mark.anyio

REQUEST = GenerateRequest(parts=(TextPart("What?"),))
STOPPING = Health(Readiness.STOPPING, "the server is stopping")


def draining(*script: object) -> tuple[DrainingRuntime, ScriptedRuntime, Availability]:
    """One over a runtime that says this."""
    inner, availability = ScriptedRuntime(*script), Availability()  # type: ignore[arg-type]
    return DrainingRuntime(inner, availability), inner, availability


async def test_before_the_end_all_is_handed_on() -> None:
    """Whatever is known of the worker: who resumes replies judges by that."""
    runtime, inner, _ = draining(last("a", token("a")))
    assert ids(await reply(runtime, REQUEST)) == [7]
    assert inner.requests == [REQUEST]
    assert await runtime.health() == Health(Readiness.READY)
    await asyncio.wait_for(runtime.drained(), 20)


async def test_new_requests_are_refused() -> None:
    """Replies and leases; the rest is answered until the ports close."""
    runtime, inner, availability = draining(last("a", token("a")))
    availability.tell(STOPPING)
    for refused in (anext(runtime.generate(REQUEST)), runtime.prefill([])):
        with pytest.raises(NotReady, match="the server is stopping"):
            await refused
    assert inner.requests == []
    assert await runtime.health() == STOPPING
    assert await runtime.metrics() == b"rows 4\n"
    await asyncio.wait_for(runtime.drained(), 20)


@pytest.mark.parametrize("to_the_end", [True, False])
async def test_the_last_reply_is_waited_for(to_the_end: bool) -> None:
    """Until it has ended, or its client hung up."""
    runtime, inner, availability = draining(last("a", token("a")), last("b", token("b")))
    streams = [runtime.generate(REQUEST) for _ in range(2)]
    for stream in streams:
        await anext(stream)
    availability.tell(STOPPING)
    waiting = asyncio.ensure_future(runtime.drained())
    await streams[0].aclose()
    await asyncio.sleep(0)
    assert not waiting.done()
    if to_the_end:
        assert len([delta async for delta in streams[1]]) == 1
    else:
        await streams[1].aclose()
    await asyncio.wait_for(waiting, 20)
    assert inner.closed == 2
