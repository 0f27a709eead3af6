"""Who is the client, and what the next one is told about it. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from gateway.policies.lists import AddressList
from sluice.config.units import ipv4_inside
from sluice.http.fields import FORWARDING, HOST, Field, Fields
from sluice.process.cache import Cache

Address = IPv4Address | IPv6Address

_UNKNOWN = IPv4Address("0.0.0.0")
_SIZE = 800
"""Bytes of a Client, of the fields for the next one, apart from what is foreign in them."""


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

    A part that is no address ends the walk: whoever wrote it is not to be believed further.
    """
    if proxies and fields.kinds & FORWARDING:
        chain = b",".join([field.value for field in fields.all if field.key == b"x-forwarded-for"])
        return _client(peer or "", chain, proxies)
    return _client(peer or "", b"", proxies)


_clients: Cache[tuple[str, bytes, AddressList], Client] = Cache(4 * 2**20)


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


def forwarding(client: Client, fields: Fields, scheme: str, port: int) -> tuple[Field, ...]:
    """The X-Forwarded-* that Laravel's TrustProxies reads: ours, or a trusted proxy's word where it has one."""
    ours = _ours(client.text, fields.first(HOST) or b"", scheme, port)
    if not (client.trusted_peer and fields.kinds & FORWARDING):
        return ours
    given = {field.key: field for field in fields.all if field.key.startswith(b"x-forwarded-")}
    given.pop(b"x-forwarded-for", None)
    prefix = given.get(b"x-forwarded-prefix")
    believed = tuple(given.get(field.key, field) for field in ours)
    return believed if prefix is None else (*believed, prefix)


_fields: Cache[tuple[str, bytes, str, int], tuple[Field, ...]] = Cache(4 * 2**20)


def _ours(client: str, host: bytes, scheme: str, port: int) -> tuple[Field, ...]:
    known = _fields.get((client, host, scheme, port))
    if known is not None:
        return known
    made = (
        Field(b"X-Forwarded-For", client.encode()),
        Field(b"X-Forwarded-Host", host),
        Field(b"X-Forwarded-Port", b"%d" % port),
        Field(b"X-Forwarded-Proto", scheme.encode()),
    )
    return _fields.keep((client, host, scheme, port), made, 2 * _SIZE + 3 * len(host))


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
