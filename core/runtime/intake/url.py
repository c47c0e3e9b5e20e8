"""The one reader of picture addresses: what it returns is what is checked, dialled and asked for.

Two parsers that read one address differently are how such checks are passed by (CVE-2019-9636 and its kind), so nothing
behind this file sees the text of an address again.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from runtime.intake.trouble import Refused

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

LONGEST: Final = 4096
"""Characters of an address."""

_URL: Final = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::(?P<port>[0-9]{1,5}))?(?P<target>[/?][^\\]*)?",
    re.IGNORECASE | re.ASCII,
)
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE | re.ASCII)
_UNSEEN: Final = re.compile(r"[\x00-\x20\x7f-\xa0\u2028\u2029\ufeff\ud800-\udfff]")
_LABEL: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)
_PORTS: Final = {"http": 80, "https": 443}

_PLAIN: Final = "write it as http(s)://HOST/PATH in ASCII, without a user name, escapes or spaces"


@dataclass(frozen=True, slots=True)
class PictureUrl:
    """An http or https address, in the parts that a client needs."""

    scheme: str
    host: str
    """A name in lower case, or an IP address in its usual spelling, without brackets."""
    port: int
    target: str
    """Path and query; ASCII, and no fragment."""

    @property
    def ip(self) -> IpAddress | None:
        """The host, where it is an IP address."""
        try:
            return ipaddress.ip_address(self.host)
        except ValueError:
            return None

    @property
    def authority(self) -> str:
        """Value of the `Host` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    def follow(self, location: str) -> PictureUrl:
        """Return where a redirect leads; raises Refused for anything that is not http or https."""
        if _SCHEME.match(location):
            return read_url(location)
        if location.startswith("//"):
            return read_url(f"{self.scheme}:{location}")
        path = self.target.partition("?")[0]
        if location.startswith("?"):
            location = path + location
        elif not location.startswith("/"):
            location = path.rpartition("/")[0] + "/" + location
        host = f"[{self.host}]" if ":" in self.host else self.host
        return read_url(f"{self.scheme}://{host}:{self.port}{location}")


def read_url(text: str) -> PictureUrl:
    """Return the parts of an address; raises Refused for every spelling that others may read differently."""
    if len(text) > LONGEST:
        raise Refused(f"the address has more than {LONGEST} characters; send a shorter one")
    found = _URL.fullmatch(text.partition("#")[0])
    if found is None or _UNSEEN.search(text):
        raise Refused(f"the address cannot be read; {_PLAIN}")
    scheme = found["scheme"].lower()
    port = _PORTS[scheme] if found["port"] is None else int(found["port"])
    if not 0 < port < 2**16:
        raise Refused(f"the address has the port {port}; ports are from 1 to 65535")
    target = found["target"] or "/"
    if not target.startswith("/"):
        target = "/" + target
    return PictureUrl(scheme, read_host(found["host"]), port, quote(target, safe="/?%:@!$&'()*+,;=-._~[]"))


def read_host(text: str) -> str:
    """Return the host in its one spelling; raises Refused for 0x7f.1, 0177.0.0.1, 2130706433 and the like."""
    try:
        if text.startswith("["):
            return str(ipaddress.IPv6Address(text[1:-1]))
        labels = text.lower().split(".")
        if _NUMBER.fullmatch(labels[-1]):  # what ends in a number is an IPv4 address to some library
            return str(ipaddress.IPv4Address(text))
    except ValueError:
        raise Refused("the address names its host by a number in an unusual spelling; write 1.2.3.4") from None
    if len(text) > 253 or not all(map(_LABEL.fullmatch, labels)):
        raise Refused(f"the address has no proper host; {_PLAIN}")
    return text.lower()
