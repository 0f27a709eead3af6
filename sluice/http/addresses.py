"""Which addresses belong to nobody in particular: this machine, the networks around it, the cloud's own services.

A name that whoever registers an endpoint, or whoever runs its DNS, may point anywhere must not lead us there (server
side request forgery). What is judged is the address that is connected to, at the moment of connecting: a name that
leads elsewhere a moment later finds the same check. After the registries of IANA (RFC 6890 and its updates); IPv6 is
public only in 2000::/3.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Literal

Kind = Literal[
    "loopback", "private", "shared", "link-local", "metadata", "multicast", "unspecified", "documentation", "reserved"
]

ALLOWED_AS_WRITTEN = frozenset[Kind](("loopback", "private", "shared"))
"""Those that whoever writes one down means."""
_IPV4: tuple[tuple[IPv4Network, Kind], ...] = (
    (IPv4Network("169.254.169.254/32"), "metadata"),  # AWS, Google, Azure, and who follows them
    (IPv4Network("168.63.129.16/32"), "metadata"),  # Azure's own services; the address itself is a public one
    (IPv4Network("100.100.100.200/32"), "metadata"),  # Alibaba
    (IPv4Network("0.0.0.0/8"), "unspecified"),
    (IPv4Network("10.0.0.0/8"), "private"),
    (IPv4Network("100.64.0.0/10"), "shared"),
    (IPv4Network("127.0.0.0/8"), "loopback"),
    (IPv4Network("169.254.0.0/16"), "link-local"),
    (IPv4Network("172.16.0.0/12"), "private"),
    (IPv4Network("192.0.0.0/24"), "reserved"),
    (IPv4Network("192.0.2.0/24"), "documentation"),
    (IPv4Network("192.88.99.0/24"), "reserved"),
    (IPv4Network("192.168.0.0/16"), "private"),
    (IPv4Network("198.18.0.0/15"), "reserved"),
    (IPv4Network("198.51.100.0/24"), "documentation"),
    (IPv4Network("203.0.113.0/24"), "documentation"),
    (IPv4Network("224.0.0.0/4"), "multicast"),
    (IPv4Network("240.0.0.0/4"), "reserved"),
)
_IPV6: tuple[tuple[IPv6Network, Kind], ...] = (
    (IPv6Network("fd00:ec2::254/128"), "metadata"),
    (IPv6Network("::1/128"), "loopback"),
    (IPv6Network("::/128"), "unspecified"),
    (IPv6Network("fc00::/7"), "private"),
    (IPv6Network("fe80::/10"), "link-local"),
    (IPv6Network("ff00::/8"), "multicast"),
    (IPv6Network("2001::/23"), "reserved"),  # Teredo, ORCHID and others that carry or hide another address
    (IPv6Network("2001:db8::/32"), "documentation"),
    (IPv6Network("2002::/16"), "reserved"),  # 6to4: an IPv4 address inside
    (IPv6Network("3fff::/20"), "documentation"),
)
_PUBLIC_IPV6 = IPv6Network("2000::/3")
_TRANSLATED = IPv6Network("64:ff9b::/96")  # NAT64: the last 32 bits are the IPv4 address that is reached


def kind_of(address: str) -> Kind | None:
    """What kind of address it is that no stranger's endpoint has; None: a public one."""
    if address.lower() == "localhost" or address.lower().endswith(".localhost"):
        return "loopback"
    found = ip_address(address)
    if isinstance(found, IPv6Address):
        inner = _inside(found)
        return _first(_IPV4, inner) if inner else _of_ipv6(found)
    return _first(_IPV4, found)


def is_literal(host: str) -> bool:
    """Whether a host says by itself where it is: an address, or localhost (RFC 6761 section 6.3)."""
    if host.lower() == "localhost" or host.lower().endswith(".localhost"):
        return True
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _of_ipv6(address: IPv6Address) -> Kind | None:
    return _first(_IPV6, address) or (None if address in _PUBLIC_IPV6 else "reserved")


def _inside(address: IPv6Address) -> IPv4Address | None:
    if address in _TRANSLATED:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped


def _first(
    table: tuple[tuple[IPv4Network, Kind], ...] | tuple[tuple[IPv6Network, Kind], ...],
    address: IPv4Address | IPv6Address,
) -> Kind | None:
    return next((kind for network, kind in table if address in network), None)
