"""Who is the client, and what the next one is told about it. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from runtime.policies import Network

Address = IPv4Address | IPv6Address
Headers = Sequence[tuple[bytes, bytes]]

_UNKNOWN = IPv4Address("0.0.0.0")
_FORWARDING = (b"x-forwarded-", b"x-sluice-")
_FORWARDING_NAMES = frozenset({b"forwarded", b"x-real-ip"})


@dataclass(frozen=True, slots=True)
class Client:
    address: Address
    trusted_peer: bool
    """The peer is one of our own proxies: what it says about the client is believed."""
    subject: str
    """What limits count by: the address, or the /64 of an IPv6 address (one customer has at least that many)."""
    text: str
    """The address as it is written."""

    def is_in(self, networks: tuple[Network, ...]) -> bool:
        return _is_in(self.address, networks)


def client_of(peer: str | None, headers: Headers, proxies: tuple[Network, ...]) -> Client:
    """The peer, or, when the peer is a trusted proxy, the first stranger of X-Forwarded-For from right to left.

    A part that is no address ends the walk: whoever wrote it is not to be believed further.
    """
    chain = b",".join([value for name, value in headers if name == b"x-forwarded-for"]) if proxies else b""
    return _client(peer or "", chain, proxies)


@lru_cache(maxsize=16_384)
def _client(peer: str, chain: bytes, proxies: tuple[Network, ...]) -> Client:
    address = _plain(peer) or _UNKNOWN
    if not _is_in(address, proxies):
        return Client(address, trusted_peer=False, subject=_subject(address), text=str(address))
    for part in reversed(chain.decode("latin-1").split(",")) if chain else ():
        hop = _plain(part.strip())
        if hop is None:
            break
        address = hop
        if not _is_in(hop, proxies):
            break
    return Client(address, trusted_peer=True, subject=_subject(address), text=str(address))


def _subject(address: Address) -> str:
    if isinstance(address, IPv6Address):
        return str(IPv6Network((address, 64), strict=False).network_address) + "/64"
    return str(address)


def forwarding(client: Client, headers: Headers, scheme: str, port: int) -> list[tuple[bytes, bytes]]:
    """The X-Forwarded-* that Laravel's TrustProxies reads: ours, or a trusted proxy's word where it has one."""
    given = {name: value for name, value in headers if name.startswith(b"x-forwarded-")} if client.trusted_peer else {}
    host = next((value for name, value in headers if name == b"host"), b"")
    told = [
        (b"X-Forwarded-For", client.text.encode()),
        (b"X-Forwarded-Host", given.get(b"x-forwarded-host", host)),
        (b"X-Forwarded-Port", given.get(b"x-forwarded-port", b"%d" % port)),
        (b"X-Forwarded-Proto", given.get(b"x-forwarded-proto", scheme.encode())),
    ]
    prefix = given.get(b"x-forwarded-prefix")
    return told if prefix is None else [*told, (b"X-Forwarded-Prefix", prefix)]


def speaks_of_forwarding(name: bytes) -> bool:
    """Names (lower-case) that a client may not set: they are ours to say."""
    return name.startswith(_FORWARDING) or name in _FORWARDING_NAMES


@lru_cache(maxsize=16_384)
def _is_in(address: Address, networks: tuple[Network, ...]) -> bool:
    return any(address in network for network in networks)


def _plain(text: str) -> Address | None:
    """An address, without the port, brackets or IPv4-in-IPv6 form it may come in."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
