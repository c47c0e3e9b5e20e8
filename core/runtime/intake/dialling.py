"""Connections to hosts whose addresses were checked, and to those very addresses."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import httpcore

from runtime.intake.policy import UrlPolicy
from runtime.intake.trouble import Unreachable
from runtime.intake.url import IpAddress, PictureUrl

Resolve = Callable[[str], Awaitable[Sequence[IpAddress]]]
"""Returns the addresses of a host name; raises OSError."""

_MOST_ADDRESSES: Final = 3
"""Tried of one host."""


class Resolver:
    """The system's name service, asked on threads of its own, as one that does not answer holds its thread up."""

    def __init__(self, threads: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="resolve")

    async def __call__(self, host: str) -> Sequence[IpAddress]:
        """Ask once."""
        found = await asyncio.get_running_loop().run_in_executor(self._threads, _look_up, host)
        return list(dict.fromkeys(found))

    def close(self) -> None:
        """Wait for no answer any more."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class Dialler:
    """Makes the connection for one request; what it checked is what it dials."""

    def __init__(self, policy: UrlPolicy, resolve: Resolve, backend: httpcore.AsyncNetworkBackend) -> None:
        self._policy = policy
        self._resolve = resolve
        self._backend = backend

    async def connections(self, url: PictureUrl, tls: Any) -> httpcore.AsyncConnectionPool:
        """Return a pool for one request to `url`; raises Refused, Unreachable."""
        self._policy.check_url(url)
        if self._policy.lists(url) and (proxy := _proxy_for(url)):
            return httpcore.AsyncConnectionPool(ssl_context=tls, proxy=proxy, network_backend=self._backend)
        addresses = [url.ip] if url.ip else await self._addresses(url.host)
        self._policy.check_addresses(url, addresses)
        return httpcore.AsyncConnectionPool(ssl_context=tls, network_backend=Pinned(addresses, self._backend))

    async def _addresses(self, host: str) -> Sequence[IpAddress]:
        try:
            addresses = await self._resolve(host)
        except (OSError, ValueError):  # a name that no name service takes
            addresses = ()
        if not addresses:
            raise Unreachable("its host is not known; check the address")
        return addresses


class Pinned(httpcore.AsyncNetworkBackend):
    """Dials the given addresses, whatever the name would resolve to now; TLS and `Host` keep the name."""

    def __init__(self, addresses: Sequence[IpAddress], backend: httpcore.AsyncNetworkBackend) -> None:
        self._addresses = addresses[:_MOST_ADDRESSES]
        self._backend = backend

    async def connect_tcp(
        self,
        host: str,  # noqa: ARG002
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address that answers, each with its share of the time."""
        share = None if timeout is None else timeout / len(self._addresses)
        failure: Exception = httpcore.ConnectError()
        for address in self._addresses:
            try:
                return await self._backend.connect_tcp(str(address), port, share, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def sleep(self, seconds: float) -> None:
        """Wait between retries, of which we make none."""
        await self._backend.sleep(seconds)


def _look_up(host: str) -> list[IpAddress]:
    return [ipaddress.ip_address(each[4][0]) for each in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]


def _proxy_for(url: PictureUrl) -> httpcore.Proxy | None:
    """Return the environment's proxy. It resolves the name itself, so it is asked for hosts that are listed only."""
    address = getproxies().get(url.scheme)
    if address is None or proxy_bypass(url.host):
        return None
    parts = urlsplit(address if "://" in address else f"http://{address}")
    auth = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
    return httpcore.Proxy(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", auth)
