"""From where pictures may be fetched."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from runtime.errors import StartupError
from runtime.intake.networks import is_nowhere, is_public
from runtime.intake.trouble import NotEnabled, Refused
from runtime.intake.url import IpAddress, PictureUrl, read_host

_ENTRY: Final = re.compile(
    r"(?P<host>\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::(?P<port>[0-9]{1,5}))?", re.IGNORECASE | re.ASCII
)
_BY_VALUE: Final = "send the picture itself as a data: URI (data:image/png;base64,...)"
_WELL_KNOWN: Final = (80, 443)
_LOWEST_FREE_PORT: Final = 1024
"""Below it live mail, shells and name servers, and no pictures but on the well-known ports."""


@dataclass(frozen=True, slots=True)
class UrlPolicy:
    """The operator's choice, and what follows from it."""

    mode: str = "public"
    """`public`: any public address, and the hosts listed; `listed`: only those; `none`."""
    listed: frozenset[tuple[str, int | None]] = frozenset()
    """Hosts with a port, or with None for any; they may be private, as an operator's own store is."""

    @classmethod
    def of(cls, mode: str, entries: Sequence[str]) -> UrlPolicy:
        """Read HOST, HOST:PORT and [IPV6]:PORT, several of them with commas between; raises StartupError."""
        listed = frozenset(_entry(each) for entry in entries for each in entry.split(","))
        if mode == "listed" and not listed:
            raise StartupError("--image-url-policy is listed and no host is; name them with --image-url-allow")
        if mode == "none" and listed:
            raise StartupError("--image-url-allow is given and --image-url-policy is none; leave one of them out")
        return cls(mode, listed)

    def lists(self, url: PictureUrl) -> bool:
        """Tell whether the operator named this host."""
        return not self.listed.isdisjoint({(url.host, None), (url.host, url.port)})

    def check_url(self, url: PictureUrl) -> None:
        """Raise NotEnabled or Refused for what is wrong whatever the name resolves to."""
        if self.mode == "none":
            raise NotEnabled(f"this server does not fetch {url.scheme} addresses; {_BY_VALUE}")
        if self.lists(url):
            return
        if self.mode == "listed":
            raise Refused(f"its host is not one of those that this server fetches from; {_BY_VALUE}")
        if url.port not in _WELL_KNOWN and url.port < _LOWEST_FREE_PORT:
            raise Refused(f"the port {url.port} is not one that pictures are fetched from; use 80 or 443")

    def check_addresses(self, url: PictureUrl, addresses: Sequence[IpAddress]) -> None:
        """Raise Refused when any of the addresses of a host is out of bounds."""
        within = all(not is_nowhere(each) if self.lists(url) else is_public(each) for each in addresses)
        if not within:
            raise Refused(f"its host is not on the public internet; {_BY_VALUE}")


def _entry(text: str) -> tuple[str, int | None]:
    found = _ENTRY.fullmatch(text.strip())
    try:
        if found is None or not 0 < int(found["port"] or 1) < 2**16:
            raise Refused("neither HOST nor HOST:PORT")
        return read_host(found["host"]), int(found["port"]) if found["port"] else None
    except Refused:
        raise StartupError(
            f"--image-url-allow {text[:100]!a} is no host; write a name or an IP address, and :PORT where only one "
            "port is meant"
        ) from None
