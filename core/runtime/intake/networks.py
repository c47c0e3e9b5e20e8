"""Which IP addresses are public.

Tables of our own and not `ipaddress.is_global`, whose answers differ between releases of Python and which calls some
multicast global. Source: the IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890 and its updates).
"""

from __future__ import annotations

import ipaddress
from typing import Final

from runtime.intake.url import IpAddress

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _networks(text: str) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(line.split("#")[0].strip()) for line in text.strip().splitlines())


NOWHERE: Final = _networks("""
    0.0.0.0/8           # this network
    169.254.0.0/16      # link-local, metadata services among it
    168.63.129.16/32    # metadata of a cloud, behind an address that looks public
    192.0.0.0/24        # protocol assignments, metadata of a cloud among it
    224.0.0.0/4         # multicast
    240.0.0.0/4         # reserved, broadcast
    ::/128              # unspecified
    ::ffff:0:0/96       # IPv4 in disguise: mapped
    ::ffff:0:0:0/96     # translated
    64:ff9b::/96        # NAT64
    64:ff9b:1::/48      # NAT64, local
    2001::/32           # Teredo
    2002::/16           # 6to4
    fe80::/10           # link-local
    fec0::/10           # site-local, deprecated
    ff00::/8            # multicast
    fd00:ec2::/32       # metadata of a cloud
""")
"""Where no picture ever is, whatever the operator lists."""

_PRIVATE: Final = _networks("""
    10.0.0.0/8          # private
    100.64.0.0/10       # shared by carriers, metadata of a cloud among it
    127.0.0.0/8         # loopback
    172.16.0.0/12       # private
    192.0.2.0/24        # documentation
    192.31.196.0/24     # AS112
    192.52.193.0/24     # AMT
    192.88.99.0/24      # 6to4 relays
    192.168.0.0/16      # private
    192.175.48.0/24     # AS112
    198.18.0.0/15       # benchmarks
    198.51.100.0/24     # documentation
    203.0.113.0/24      # documentation
    2001::/23           # protocol assignments
    2001:db8::/32       # documentation
    2620:4f:8000::/48   # AS112
    3fff::/20           # documentation
""")
_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
"""All of IPv6 that is assigned for the public so far."""


def is_public(address: IpAddress) -> bool:
    """Tell whether the address is one of the public internet."""
    if address.version == 6 and address not in _GLOBAL_UNICAST:
        return False
    return not any(address in network for network in (*NOWHERE, *_PRIVATE))


def is_nowhere(address: IpAddress) -> bool:
    """Tell whether nothing may be fetched from there, whatever the operator lists."""
    return any(address in network for network in NOWHERE)
