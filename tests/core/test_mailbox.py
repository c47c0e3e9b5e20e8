"""Outcomes between the device thread and a reader."""

from __future__ import annotations

import asyncio

import pytest
from runtime.errors import BackendError
from runtime.mailbox import Mailbox
from runtime.runtime import Delta
from support.scripted import last, token

pytestmark = pytest.mark.anyio

ONE, TWO, THREE = token("one", 1), token("two", 2), token("three", 3)


async def test_reader_waits() -> None:
    """What is put wakes the reader."""
    mailbox = Mailbox()
    reading = asyncio.ensure_future(mailbox.take())
    await asyncio.sleep(0)
    assert not reading.done()
    mailbox.put(Delta((ONE,)))
    assert await reading == Delta((ONE,))


async def test_slow_reader_gets_all_at_once() -> None:
    """Several tokens in order, with the completion of the last."""
    mailbox = Mailbox()
    end = last("three", THREE)
    for delta in (Delta((ONE,)), Delta((TWO,)), end):
        mailbox.put(delta)
    assert await mailbox.take() == Delta((ONE, TWO, THREE), end.completion)


async def test_nothing_is_told_twice() -> None:
    """After a take the mailbox is empty."""
    mailbox = Mailbox()
    mailbox.put(Delta((ONE,)))
    await mailbox.take()
    reading = asyncio.ensure_future(mailbox.take())
    await asyncio.sleep(0)
    assert not reading.done()
    mailbox.put(Delta((TWO,)))
    assert await reading == Delta((TWO,))


async def test_error_in_place_of_tokens() -> None:
    """It is raised."""
    mailbox = Mailbox()
    mailbox.put(BackendError("lost"))
    with pytest.raises(BackendError, match="lost"):
        await mailbox.take()


async def test_tokens_before_an_error_are_not_lost() -> None:
    """The tokens first, then the error, however late the reader is; and the error stays."""
    mailbox = Mailbox()
    for outcome in (Delta((ONE,)), Delta((TWO,)), BackendError("lost")):
        mailbox.put(outcome)
    assert await mailbox.take() == Delta((ONE, TWO))
    for _ in range(2):
        with pytest.raises(BackendError, match="lost"):
            await mailbox.take()
