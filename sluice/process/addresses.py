"""Where things answer, from the policies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sluice.config import Listen, StorePolicy
from sluice.config.listening import Listener, UnixSocket
from sluice.store import embedded

EMBEDDED = "embedded"
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}


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
