"""What becomes of fetches, as the metrics tell it."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from PIL import Image
from runtime.errors import ImageRefused
from runtime.intake.decoders import Decoders, DecodeTimes
from runtime.intake.fetch import Fetcher, FetchLimits
from runtime.intake.limits import IntakeLimits
from runtime.intake.pictures import PictureIntake
from runtime.intake.policy import UrlPolicy
from runtime.prompt.tiles import cutting_of
from runtime.runtime import ImageUrlPart
from runtime.telemetry.fetches import OUTCOMES, Fetches
from runtime.telemetry.registry import Registry
from support.attack_hosts import redirect, silent_after
from support.geometries import DEMO_IMAGES
from support.misbehaving import Behaviour, Exchange, answering, misbehaving, ok
from support.scrape import read_scrape

pytestmark = pytest.mark.anyio

LIMITS = IntakeLimits(max_bytes=5000)


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    """One process."""
    made = Decoders(1, LIMITS, cutting_of(DEMO_IMAGES), DecodeTimes(wall=120, patience=120))
    made.start()
    yield made
    made.close()


class Counted:
    """An intake that counts, and a host for it."""

    def __init__(self, intake: PictureIntake, url: str, registry: Registry) -> None:
        self.intake = intake
        self.url = url
        self._registry = registry

    def outcomes(self) -> dict[str, float]:
        """Those that there were."""
        values = read_scrape(self._registry.exposition())["runtime_image_fetches_total"].values
        assert set(values) == set(OUTCOMES)
        return {outcome: value for outcome, value in values.items() if value}

    def bytes(self) -> float:
        """All that came."""
        return read_scrape(self._registry.exposition())["runtime_image_fetch_bytes_total"].values[""]


@asynccontextmanager
async def counting(behave: Behaviour, decoders: Decoders, total: float = 60) -> AsyncIterator[Counted]:
    registry = Registry()
    async with misbehaving(behave) as server:
        policy = UrlPolicy.of("public", [f"127.0.0.1:{server.port}"])
        limits = FetchLimits(connect=30, silence=30, total=total)
        fetcher = Fetcher(policy, LIMITS.max_bytes, limits, fetches=Fetches(registry))
        try:
            yield Counted(PictureIntake(fetcher, decoders, LIMITS), server.url(), registry)
        finally:
            fetcher.close()


async def test_a_picture(decoders: Decoders) -> None:
    """Counted once it is decoded, with its bytes; one by value is no fetch."""
    async with counting(answering(ok(png())), decoders) as counted:
        await counted.intake.take([ImageUrlPart(counted.url)] * 2)
        assert counted.outcomes() == {"ok": 2}
        assert counted.bytes() == 2 * len(png())
        with pytest.raises(ImageRefused):
            await counted.intake.take([ImageUrlPart("data:;base64,AAAA")])
        assert counted.outcomes() == {"ok": 2}


@pytest.mark.parametrize(
    ("outcome", "behave"),
    [
        ("refused", answering(redirect("http://10.0.0.1/"))),
        ("unreachable", answering(b"HTTP/1.1 404 No\r\nContent-Length: 9\r\n\r\nsecretive")),
        ("unreachable", answering(b"220 mail.example ESMTP\r\n")),
        ("unreachable", answering(redirect("/"))),
        ("slow", silent_after(b"")),
        ("large", answering(ok(bytes(5001)))),
        ("not_a_picture", answering(ok(b"<svg/>"))),
    ],
)
async def test_other_ends(outcome: str, behave: Behaviour, decoders: Decoders) -> None:
    """One for each fetch, whatever the number of its redirects."""
    async with counting(behave, decoders, total=0.5 if outcome == "slow" else 60) as counted:
        with pytest.raises(ImageRefused):
            await counted.intake.take([ImageUrlPart(counted.url)])
        assert counted.outcomes() == {outcome: 1}


async def test_bytes_of_a_fetch_that_is_given_up(decoders: Decoders) -> None:
    """They came all the same."""
    begun = asyncio.Event()

    async def behave(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npng")
        begun.set()
        await exchange.hung_up()

    async with counting(behave, decoders) as counted:
        taking = asyncio.ensure_future(counted.intake.take([ImageUrlPart(counted.url)]))
        await asyncio.wait_for(begun.wait(), 30)
        while not counted.bytes():  # noqa: ASYNC110
            await asyncio.sleep(0)
        taking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await taking
        assert counted.outcomes() == {"cancelled": 1}
        assert counted.bytes() == 3


def test_a_picture_that_nobody_waits_for_any_more() -> None:
    """It was fetched, and its request ended while it was decoded."""
    registry = Registry()
    with pytest.raises(asyncio.CancelledError), Fetches(registry).used():
        raise asyncio.CancelledError
    assert read_scrape(registry.exposition())["runtime_image_fetches_total"].values["cancelled"] == 1
