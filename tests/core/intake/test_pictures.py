"""Pictures of a request together: fetched, decoded and cut."""

from __future__ import annotations

import asyncio
import base64
import gc
import io
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from PIL import Image
from runtime.errors import ImageNotFetched, ImageRefused, ImageUrlNotEnabled
from runtime.intake.decoders import Decoders, DecodeTimes
from runtime.intake.fetch import Fetcher, FetchLimits
from runtime.intake.limits import IntakeLimits
from runtime.intake.pictures import AT_ONCE, PictureIntake
from runtime.intake.policy import UrlPolicy
from runtime.prompt.tiles import cutting_of
from runtime.runtime import ImagePart, ImageUrlPart
from support.geometries import DEMO_IMAGES
from support.misbehaving import Behaviour, Exchange, MisbehavingServer, misbehaving, ok

pytestmark = pytest.mark.anyio

LIMITS = IntakeLimits()


def png(width: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, 30)).save(buffer, "PNG")
    return buffer.getvalue()


async def pictures(exchange: Exchange) -> None:
    """Serve /WIDTH as a picture that wide."""
    await exchange.send(ok(png(int(exchange.head.split()[1].strip("/")))))


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    """One process."""
    made = Decoders(1, LIMITS, cutting_of(DEMO_IMAGES), DecodeTimes(wall=120, patience=120))
    made.start()
    yield made
    made.close()


@asynccontextmanager
async def taking(
    behave: Behaviour, decoders: Decoders, in_flight: int = 16
) -> AsyncIterator[tuple[PictureIntake, MisbehavingServer]]:
    async with misbehaving(behave) as server:
        limits = FetchLimits(connect=30, silence=30, total=60, in_flight=in_flight)
        fetcher = Fetcher(UrlPolicy.of("public", [f"127.0.0.1:{server.port}"]), LIMITS.max_bytes, limits)
        try:
            yield PictureIntake(fetcher, decoders, LIMITS), server
        finally:
            fetcher.close()


async def test_pictures_come_in_order(decoders: Decoders) -> None:
    """By value, as data and by address; each with the time of its stages."""
    async with taking(pictures, decoders, in_flight=1) as (intake, server):
        taken = await intake.take(
            [
                ImageUrlPart(server.url("/50")),
                ImagePart(png(51)),
                ImageUrlPart("data:;base64," + base64.b64encode(png(52)).decode()),
                ImageUrlPart(server.url("/53")),
                *[ImageUrlPart(server.url(f"/{60 + index}")) for index in range(8)],
            ]
        )
    assert [picture.size for picture in taken] == [(30, width) for width in (50, 51, 52, 53, *range(60, 68))]
    assert all(set(picture.seconds) == {"fetch", "decode", "tile"} for picture in taken)


async def test_a_request_takes_its_share_of_places_only(decoders: Decoders) -> None:
    """So that one with many pictures leaves places for others."""
    together = asyncio.Event()
    asked = 0

    async def behave(exchange: Exchange) -> None:
        nonlocal asked
        asked += 1
        if asked == AT_ONCE:
            together.set()
        await exchange.hung_up()

    async with taking(behave, decoders) as (intake, server):
        taking_in = asyncio.ensure_future(intake.take([ImageUrlPart(server.url())] * 10))
        await asyncio.wait_for(together.wait(), 30)
        assert len(await intake.take([ImagePart(png(40))])) == 1
        assert asked == AT_ONCE
        taking_in.cancel()
        with pytest.raises(asyncio.CancelledError):
            await taking_in


async def test_one_refusal_gives_up_the_others(decoders: Decoders) -> None:
    """Their connections are closed; the place of the one at fault is told."""
    begun, gone = asyncio.Event(), asyncio.Event()

    async def behave(exchange: Exchange) -> None:
        if "/slow" in exchange.head:
            begun.set()
            await exchange.hung_up()
            gone.set()
        else:
            await begun.wait()
            await exchange.send(ok(b"<svg/>"))

    async with taking(behave, decoders) as (intake, server):
        with pytest.raises(ImageRefused, match="picture 1: it is not a PNG"):
            await intake.take([ImageUrlPart(server.url("/slow")), ImageUrlPart(server.url("/svg"))])
        await asyncio.wait_for(gone.wait(), 30)


async def test_slow_hosts_keep_no_other_picture_waiting(decoders: Decoders) -> None:
    """Every place for fetching is taken, and pictures by value go on."""
    begun = asyncio.Event()

    async def behave(exchange: Exchange) -> None:
        begun.set()
        await exchange.hung_up()

    async with taking(behave, decoders, in_flight=1) as (intake, server):
        slow = asyncio.ensure_future(intake.take([ImageUrlPart(server.url())]))
        await asyncio.wait_for(begun.wait(), 30)
        assert len(await intake.take([ImagePart(png(40))])) == 1
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow


async def test_other_schemes(decoders: Decoders) -> None:
    """What is not http goes to no network; the loopback is refused by default, and all of it by policy."""
    async with taking(pictures, decoders) as (intake, server):
        for url in ("file:///etc/passwd", "ftp://a/b", "gopher://a", "HTTP:a", "http:/a"):
            with pytest.raises(ImageRefused, match="picture 0: "):
                await intake.take([ImageUrlPart(url)])
    for policy, error in ((UrlPolicy(), ImageNotFetched), (UrlPolicy("none"), ImageUrlNotEnabled)):
        fetcher = Fetcher(policy, 100)
        with pytest.raises(error):
            await PictureIntake(fetcher, decoders, LIMITS).take([ImageUrlPart(server.url("/50"))])
        fetcher.close()


async def test_refusals_that_nobody_waits_for_are_no_errors(decoders: Decoders) -> None:
    """Of several bad pictures the first is told; the loop has nothing to complain of."""
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
    async with taking(pictures, decoders) as (intake, _):
        for _ in range(20):
            with pytest.raises(ImageRefused):
                await intake.take([ImageUrlPart("no scheme")] * AT_ONCE)
    await asyncio.get_running_loop().run_in_executor(decoders._threads, gc.collect)
    await asyncio.sleep(0)
    assert complaints == []
