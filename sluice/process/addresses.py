"""Where things answer, from the policies."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from sluice.config import Listen, StorePolicy
from sluice.config.listening import Listener, UnixSocket
from sluice.config.units import ipv4_inside
from sluice.store import embedded

EMBEDDED = "embedded"
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}
_LOCALHOST = ("127.0.0.1", "::1")
_PORTS = {"http": 80, "https": 443}


class HasStore(Protocol):
    """Policies, as far as they say where the store is."""

    @property
    def data(self) -> Path: ...
    @property
    def store(self) -> StorePolicy: ...


def store_url(policies: HasStore) -> str:
    """The store's address; the embedded one answers on a socket in the data folder."""
    return embedded.url(policies.data) if policies.store.url == EMBEDDED else policies.store.url


@dataclass(frozen=True, slots=True)
class Reached:
    """How this machine reaches a listener."""

    url: str
    socket: Path | None = None
    """A unix socket, over which the url is asked."""
    certificate: Path | None = None
    """What is believed instead of the authorities: the listener's own certificate, which is for another name."""

    def __str__(self) -> str:
        return f"unix:{self.socket}" if self.socket else self.url


def reached(listeners: Sequence[Listener]) -> Reached:
    """The way without TLS, where there is one, and over TCP rather than over a unix socket."""
    return _reached(min(listeners, key=lambda one: (one.tls is not None, isinstance(one.address, UnixSocket))))


def _reached(listener: Listener) -> Reached:
    scheme, cert = ("https", listener.tls.cert) if listener.tls else ("http", None)
    if isinstance(listener.address, UnixSocket):
        return Reached(f"{scheme}://localhost", listener.address.path, cert)
    here = Listen(_ANY.get(listener.address.host, listener.address.host), listener.address.port)
    return Reached(f"{scheme}://{here}", None, cert)


def base_url(listeners: Sequence[Listener]) -> str:
    """For a person, and for programs that know neither unix sockets nor our certificates."""
    return reached(listeners).url


def leads_to(listen: Listen | UnixSocket, url: str) -> bool:
    """Whether whoever calls this URL gets the gateway that listens there, as far as can be told without asking a name
    server: it names its address, or, where the gateway has all of them, one of this machine."""
    if isinstance(listen, UnixSocket):
        return url == str(listen)
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    if (parts.port or _PORTS.get(parts.scheme)) != listen.port:
        return False
    if host == listen.host.lower():
        return True
    meant = _addresses(host)
    if listen.host in _ANY:
        return any(map(_is_here, meant))
    return not meant.isdisjoint(_addresses(listen.host.lower()))


def _addresses(host: str) -> frozenset[str]:
    """Those that a host says by itself; none: it is another name."""
    if host == "localhost" or host.endswith(".localhost"):
        return frozenset(_LOCALHOST)
    try:
        address = ip_address(host)
    except ValueError:
        return frozenset()
    if isinstance(address, IPv6Address):
        address = ipv4_inside(address) or address
    return frozenset((_ANY.get(str(address), str(address)),))


def _is_here(address: str) -> bool:
    """Only an address of this machine can be bound; nothing is sent by that."""
    if ip_address(address).is_loopback:
        return True
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True
