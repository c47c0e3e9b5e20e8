"""Web servers that misbehave: each costs one refusal, in bounded time and bytes."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from runtime.errors import ImageNotFetched
from runtime.intake.fetch import Fetcher, FetchLimits
from runtime.intake.policy import UrlPolicy
from support.attack_hosts import DRIPS, ENCODINGS, NO_ANSWERS, bomb, dripping, endless, redirect, silent_after
from support.misbehaving import Behaviour, Exchange, MisbehavingServer, answering, misbehaving, ok

pytestmark = pytest.mark.anyio

MOST = 100_000
"""Bytes of a picture."""
PATIENT = FetchLimits(connect=20, silence=20, total=60)
HASTY = FetchLimits(connect=20, silence=0.2, total=0.4)


@asynccontextmanager
async def fetching(
    behave: Behaviour, limits: FetchLimits = PATIENT, clock: Callable[[], float] = time.monotonic
) -> AsyncIterator[tuple[Fetcher, MisbehavingServer]]:
    async with misbehaving(behave) as server:
        policy = UrlPolicy.of("public", [f"127.0.0.1:{server.port}"])
        fetcher = Fetcher(policy, MOST, limits, clock=clock)
        try:
            yield fetcher, server
        finally:
            fetcher.close()


async def refusal(behave: Behaviour, limits: FetchLimits = PATIENT) -> str:
    """The text of the refusal, which tells nothing of the server or of a library."""
    async with fetching(behave, limits) as (fetcher, server):
        with pytest.raises(ImageNotFetched) as caught:
            await fetcher.fetch(server.url(), 2)
    message = caught.value.message
    assert message.startswith("picture 2: ")
    assert "127.0.0.1" not in message
    assert "Error" not in message
    return message


async def test_a_proper_answer() -> None:
    """The suite's server serves a picture when it behaves; only what is in the allowance is reached on the loopback."""
    async with fetching(answering(ok(b"png"))) as (fetcher, server):
        assert await fetcher.fetch(server.url(), 0) == b"png"
        assert await fetcher.fetch(server.url("?a=b#c"), 0) == b"png"
        assert [head.split()[1] for head in server.heads] == ["/picture.png", "/?a=b"]
        unlisted = Fetcher(UrlPolicy(), MOST)
        with pytest.raises(ImageNotFetched, match="not on the public internet"):
            await unlisted.fetch(server.url(), 0)
        unlisted.close()
    assert len(server.heads) == 2


async def test_proper_answers_of_other_shapes() -> None:
    """Chunks, an end by closing the connection, a prelude of 1xx answers."""
    for parts in (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\np\r\n2;x=y\r\nng\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\npng",
        b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" + ok(b"png"),
        ok(b"png", "Content-Type: text/html"),
    ):
        async with fetching(answering(parts)) as (fetcher, server):
            assert await fetcher.fetch(server.url(), 0) == b"png"


@pytest.mark.parametrize(
    "answer",
    NO_ANSWERS,
    ids=lambda answer: answer[:60],
)
async def test_answers_that_are_none(answer: bytes) -> None:
    """Other protocols, broken framing, heads without end, a length that lies."""
    assert "no answer that could be read" in await refusal(answering(answer))


async def test_a_length_below_the_truth() -> None:
    """What follows the length is not read."""
    async with fetching(answering(ok(b"png") + b"more" * 1000)) as (fetcher, server):
        assert await fetcher.fetch(server.url(), 0) == b"png"


@pytest.mark.parametrize("status", [204, 206, 304, 400, 401, 403, 404, 500, 503])
async def test_other_statuses(status: int) -> None:
    """The number is told, the body is not read."""
    head = f"HTTP/1.1 {status} No\r\nContent-Length: 9\r\n\r\nsecretive"
    assert f"status {status}" in await refusal(answering(head.encode()))


async def test_a_length_beyond_the_limit() -> None:
    """Refused by the head, before a byte of the body came."""
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {MOST + 1}\r\n\r\n".encode()

    assert f"more than {MOST} bytes" in await refusal(silent_after(head))


@pytest.mark.parametrize("chunked", [False, True])
async def test_an_endless_body(chunked: bool) -> None:
    """It is read up to the limit and what the sockets hold, then the connection is closed."""
    sent: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def behave(exchange: Exchange) -> None:
        sent.set_result(await endless(exchange, chunked))

    async with fetching(behave) as (fetcher, server):
        with pytest.raises(ImageNotFetched, match=f"more than {MOST} bytes"):
            await fetcher.fetch(server.url(), 2)
        assert await asyncio.wait_for(sent, 30) < 50 * 2**20


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_compressed_bodies(encoding: str) -> None:
    """A bomb is refused by its head: none was asked for, and nothing here unpacks one."""
    assert "compressed" in await refusal(answering(bomb(encoding)))


async def test_silence_before_the_first_byte() -> None:
    """The connection is taken and nothing comes."""
    assert "takes too long" in await refusal(silent_after(b""), HASTY)


async def test_silence_in_the_body() -> None:
    """Half a picture comes, and no more."""
    assert "takes too long" in await refusal(silent_after(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npng"), HASTY)


@pytest.mark.parametrize("start", DRIPS)
async def test_a_slow_drip(start: bytes) -> None:
    """Bytes that keep coming, one by one, in the head or in the body: the total time ends it."""
    limits = FetchLimits(silence=20, total=0.4, grace=20)
    assert "waits 0.4 s in all" in await refusal(dripping(start), limits)


async def test_a_body_below_the_least_rate() -> None:
    """By a clock that says ten seconds passed with each byte."""
    seconds = itertools.count(0, 10)

    start = b"HTTP/1.1 200 OK\r\nContent-Length: 90000\r\n\r\na"
    async with fetching(silent_after(start), clock=lambda: next(seconds)) as (fetcher, server):
        with pytest.raises(ImageNotFetched, match="less than 16384 bytes per second"):
            await fetcher.fetch(server.url(), 2)


async def test_hosts_that_do_not_listen() -> None:
    """The port was free a moment ago."""
    async with fetching(answering()) as (fetcher, server):
        pass
    with pytest.raises(ImageNotFetched, match="no answer"):
        await fetcher.fetch(server.url(), 0)


async def test_tls_that_is_none() -> None:
    """A plain server behind an https address waits for a request that never comes; connecting has its own limit."""
    async with fetching(answering(ok(b"png")), FetchLimits(connect=0.4)) as (fetcher, server):
        with pytest.raises(ImageNotFetched, match="takes too long"):
            await fetcher.fetch(server.url().replace("http:", "https:"), 0)


async def test_a_redirect_loop() -> None:
    """Four requests are made of it."""
    async with fetching(answering(redirect("/again"))) as (fetcher, server):
        with pytest.raises(ImageNotFetched, match="more than 3 times"):
            await fetcher.fetch(server.url(), 2)
        assert len(server.heads) == 4


async def test_a_redirect_without_a_place() -> None:
    """It is a status like any other."""
    assert "status 302" in await refusal(answering(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"))


async def test_a_client_that_goes_ends_the_fetch() -> None:
    """The connection to the host is closed at once."""
    begun, gone = asyncio.Event(), asyncio.Event()

    async def behave(exchange: Exchange) -> None:
        begun.set()
        await exchange.hung_up()
        gone.set()

    async with fetching(behave) as (fetcher, server):
        fetch = asyncio.ensure_future(fetcher.fetch(server.url(), 0))
        await asyncio.wait_for(begun.wait(), 30)
        fetch.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetch
        await asyncio.wait_for(gone.wait(), 30)
