"""Where things answer, from the policies."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from sluice.config import Listen, StorePolicy
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


def base_url(listen: Listen) -> str:
    """How this machine reaches the gateway."""
    host = _ANY.get(listen.host, listen.host)
    return f"http://[{host}]:{listen.port}" if ":" in host else f"http://{host}:{listen.port}"
