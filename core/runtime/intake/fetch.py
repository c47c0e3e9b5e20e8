"""Pictures from http and https addresses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

import httpcore
import httpx

from runtime.errors import ImageNotFetched, ImageUrlNotEnabled
from runtime.intake.dialling import Dialler, Resolve, Resolver
from runtime.intake.policy import UrlPolicy
from runtime.intake.trouble import NotEnabled, TooLarge, TooSlow, Trouble, Unreachable
from runtime.intake.url import PictureUrl, read_url
from runtime.telemetry.fetches import Fetches
from runtime.telemetry.registry import Registry

_REDIRECTS: Final = (301, 302, 303, 307, 308)
_HEADERS: Final = (("Accept", "image/*"), ("Accept-Encoding", "identity"), ("User-Agent", "vlm-runtime"))
_MISCARRIED: Final = (httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol, OSError, ValueError)
"""What the client raises when the other side, or the way there, does not do its part."""


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """Bounds on one fetch; seconds."""

    connect: float = 5.0
    """For the name, the connection and TLS, each."""
    silence: float = 5.0
    """Until the first byte, and between any two reads."""
    total: float = 20.0
    """With all redirects."""
    rate: int = 16_384
    """Bytes per second, on average, once `grace` has passed."""
    grace: float = 3.0
    redirects: int = 3
    in_flight: int = 16
    """Pictures being fetched at once, and fetched but not yet decoded."""


class Fetcher:
    """Fetches what the policy permits, and no byte more than a picture may have. Lives on one event loop."""

    def __init__(
        self,
        policy: UrlPolicy,
        max_bytes: int,
        limits: FetchLimits | None = None,
        resolve: Resolve | None = None,
        backend: httpcore.AsyncNetworkBackend | None = None,
        clock: Callable[[], float] = time.monotonic,
        fetches: Fetches | None = None,
    ) -> None:
        """`resolve`, `backend` and `clock` stand in for the name service, the network and the time."""
        self.limits = limits or FetchLimits()
        self.fetches = fetches or Fetches(Registry())
        """Where this fetcher counts what brings no picture; who uses its pictures counts these."""
        self._max_bytes = max_bytes
        self._resolver = Resolver(self.limits.in_flight)
        self._dialler = Dialler(policy, resolve or self._resolver, backend or httpcore.AnyIOBackend())
        self._tls = httpx.create_ssl_context()
        self._clock = clock

    async def fetch(self, address: str, index: int) -> bytes:
        """Return what is there; raises ImageUrlNotEnabled or ImageNotFetched, which name the picture by `index`."""
        try:
            return await self._in_time(address)
        except Trouble as trouble:
            self.fetches.ended(trouble.outcome)
            error = ImageUrlNotEnabled if isinstance(trouble, NotEnabled) else ImageNotFetched
            raise error(f"picture {index}: {trouble}") from None
        except asyncio.CancelledError:
            self.fetches.ended("cancelled")
            raise

    def close(self) -> None:
        """Give the threads back."""
        self._resolver.close()

    async def _in_time(self, address: str) -> bytes:
        try:
            return await asyncio.wait_for(self._follow(address), self.limits.total)
        except (httpcore.TimeoutException, asyncio.TimeoutError):  # two classes before Python 3.11
            raise TooSlow(
                f"fetching it takes too long; this server waits {self.limits.total:g} s in all and "
                f"{self.limits.silence:g} s for a sign of life"
            ) from None
        except _MISCARRIED:
            raise Unreachable(
                "its host gives no answer that could be read; check the address, or send the picture itself"
            ) from None

    async def _follow(self, address: str) -> bytes:
        url = read_url(address)
        for _ in range(self.limits.redirects + 1):
            answer = await self._request(url)
            if not isinstance(answer, str):
                return answer
            url = url.follow(answer)
        raise Unreachable(f"its address leads on more than {self.limits.redirects} times; send the last address")

    async def _request(self, url: PictureUrl) -> bytes | str:
        """Return the picture, or where a redirect leads."""
        limits = self.limits
        timeouts = dict.fromkeys(("connect", "pool"), limits.connect) | dict.fromkeys(("read", "write"), limits.silence)
        pool = await asyncio.wait_for(self._dialler.connections(url, self._tls), limits.connect)
        target = httpcore.URL(scheme=url.scheme, host=url.host, port=url.port, target=url.target)
        headers = [("Host", url.authority), *_HEADERS]
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(pool)
            response = await stack.enter_async_context(
                pool.stream("GET", target, headers=headers, extensions={"timeout": timeouts})
            )
            fields = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
            if response.status in _REDIRECTS and "location" in fields:
                return fields["location"]
            if response.status != 200:
                raise Unreachable(f"its host answered with status {response.status}; check the address")
            if fields.get("content-encoding", "identity").lower() != "identity":
                raise Unreachable("its host sent it compressed once more, unasked; send the picture itself")
            self._check_size(int(fields.get("content-length", "0")))
            return await self._read(response)

    async def _read(self, response: httpcore.Response) -> bytes:
        data = bytearray()
        began = self._clock()
        async for chunk in response.aiter_stream():
            self._check_size(len(data) + len(chunk))
            data += chunk
            self.fetches.came(len(chunk))
            took = self._clock() - began
            if took > self.limits.grace and len(data) < took * self.limits.rate:
                raise TooSlow(
                    f"it comes with less than {self.limits.rate} bytes per second, the least this server waits for"
                )
        return bytes(data)

    def _check_size(self, size: int) -> None:
        if size > self._max_bytes:
            raise TooLarge(f"it has more than {self._max_bytes} bytes, the most this server takes; make it smaller")
