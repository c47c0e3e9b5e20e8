"""How much one client may have at work."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from runtime.errors import Overloaded

IPV6_PREFIX: Final = 64
"""Bits that name a client: the rest of an IPv6 address is its own to choose (RFC 6177)."""


class ClientPlaces:
    """Places for the requests of each client, by the address of its connection; lives on one event loop.

    No header is asked, as clients write those themselves: behind a proxy, all its clients are one.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken: Counter[str] = Counter()

    @contextmanager
    def place(self, address: str) -> Iterator[None]:
        """Hold a place while a request is at work; raises Overloaded when the client has as many as it may."""
        client = client_of(address)
        if self._taken[client] >= self._limit:
            message = f"this client has {self._limit} requests at work already; the operator's limit is"
            raise Overloaded(f"{message} --max-concurrent-per-client, try again when one of them has ended")
        self._taken[client] += 1
        try:
            yield
        finally:
            self._taken[client] -= 1
            if not self._taken[client]:
                del self._taken[client]


def client_of(address: str) -> str:
    """Return what an IP address shows of who is behind it; other texts, such as those of sockets, as they are."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((int(parsed), IPV6_PREFIX), strict=False))
