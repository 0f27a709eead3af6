"""Who is the client, and what the next one is told about it. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final

from gateway.policies.lists import AddressList
from sluice.config.units import ipv4_inside
from sluice.http.fields import FORWARDING, HOST, Field, Fields
from sluice.process.cache import Cache

Address = IPv4Address | IPv6Address

MAX_CHAIN: Final = 4096
"""Bytes of what may be said about forwarding: over a hundred proxies."""
_UNKNOWN: Final = IPv4Address("0.0.0.0")
_SIZE: Final = 800
"""Bytes of a Client, of the fields for the next one, apart from what is foreign in them."""
_FOR, _HOST, _PROTO, _PREFIX = b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-forwarded-prefix"
_READ: Final = frozenset((_FOR, _HOST, b"x-forwarded-port", _PROTO, _PREFIX))
_SECURE: Final = frozenset((b"https", b"on", b"ssl", b"1"))
"""What Laravel takes for https (Request::isSecure of Symfony)."""


@dataclass(frozen=True, slots=True)
class Client:
    address: Address
    trusted_peer: bool
    """The peer is one of our own proxies: what it says about the client is believed."""
    subject: str
    """What limits count by: the address, or the /64 of an IPv6 address (one customer has at least that many)."""
    text: str
    """The address as it is written."""


def client_of(peer: str | None, fields: Fields, proxies: AddressList) -> Client:
    """The peer, or, when the peer is a trusted proxy, the first stranger of X-Forwarded-For from right to left.

    A part that is no address ends the walk: whoever wrote it is not to be believed further. Of a chain that is too long
    (`said_too_much`) nothing is read.
    """
    nearest = _client(peer or "", b"", proxies)
    if not (nearest.trusted_peer and fields.kinds & FORWARDING) or said_too_much(fields):
        return nearest
    chain = b",".join([field.value for field in fields.all if field.key == _FOR])
    return _client(peer or "", chain, proxies)


def said_too_much(fields: Fields) -> bool:
    """Whether the X-Forwarded-* that are read here have over `MAX_CHAIN` bytes together."""
    return (
        bool(fields.kinds & FORWARDING)
        and sum([len(field.value) for field in fields.all if field.key in _READ]) > MAX_CHAIN
    )


_clients: Final[Cache[tuple[str, bytes, AddressList], Client]] = Cache(4 * 2**20)


def _client(peer: str, chain: bytes, proxies: AddressList) -> Client:
    known = _clients.get((peer, chain, proxies))
    if known is not None:
        return known
    return _clients.keep((peer, chain, proxies), _found(peer, chain, proxies), _SIZE + len(chain))


def _found(peer: str, chain: bytes, proxies: AddressList) -> Client:
    address = _plain(peer) or _UNKNOWN
    if not proxies.holds(address, 0.0):
        return Client(address, trusted_peer=False, subject=_subject(address), text=str(address))
    for part in reversed(chain.decode("latin-1").split(",")) if chain else ():
        hop = _plain(part.strip())
        if hop is None:
            break
        address = hop
        if not proxies.holds(hop, 0.0):
            break
    return Client(address, trusted_peer=True, subject=_subject(address), text=str(address))


def _subject(address: Address) -> str:
    if isinstance(address, IPv6Address):
        return str(IPv6Network((address, 64), strict=False).network_address) + "/64"
    return str(address)


def forwarding(client: Client, fields: Fields, scheme: str) -> tuple[Field, ...]:
    """The X-Forwarded-* that Laravel's TrustProxies reads: ours, or a trusted proxy's word where it has one.

    Scheme, host and port are one statement: the port is that of the host, or else the usual one of the scheme. The port
    that a request came to is no part of it, as a proxy or a container may have mapped it from another.
    """
    host = fields.first(HOST) or b""
    if not (client.trusted_peer and fields.kinds & FORWARDING):
        return _ours(client.text, host, scheme.encode())
    given = {field.key: field for field in fields.all if field.key in _READ}
    given.pop(_FOR, None)
    prefix = given.get(_PREFIX)
    ours = _ours(client.text, _first(given.get(_HOST)) or host, _first(given.get(_PROTO)) or scheme.encode())
    believed = tuple(given.get(field.key, field) for field in ours)
    return believed if prefix is None else (*believed, prefix)


def _first(field: Field | None) -> bytes:
    """Of a list: what the first of several proxies said is what Laravel goes by."""
    return b"" if field is None else field.value.partition(b",")[0].strip()


_fields: Final[Cache[tuple[str, bytes, bytes], tuple[Field, ...]]] = Cache(4 * 2**20)


def _ours(client: str, host: bytes, scheme: bytes) -> tuple[Field, ...]:
    known = _fields.get((client, host, scheme))
    if known is not None:
        return known
    made = (
        Field(b"X-Forwarded-For", client.encode()),
        Field(b"X-Forwarded-Host", host),
        Field(b"X-Forwarded-Port", _port(host) or (b"443" if scheme.lower() in _SECURE else b"80")),
        Field(b"X-Forwarded-Proto", scheme),
    )
    return _fields.keep((client, host, scheme), made, 2 * _SIZE + 3 * len(host) + 3 * len(scheme))


def _port(host: bytes) -> bytes:
    """Empty: it names none, or none that there is."""
    port = (host.rpartition(b"]")[2] if host.startswith(b"[") else host).partition(b":")[2]
    return port if port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536 else b""


def _plain(text: str) -> Address | None:
    """An address, without the port, the brackets or the IPv6 form of IPv4 that it may come in."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    inside = ipv4_inside(address) if isinstance(address, IPv6Address) else None
    return inside or address
