"""Where things answer, from the policies."""

from __future__ import annotations

from sluice.config import Listen, Policies
from sluice.store import embedded

EMBEDDED = "embedded"
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def store_url(policies: Policies) -> str:
    """The store's address; the embedded one answers on a socket in the data folder."""
    return embedded.url(policies.data) if policies.store.url == EMBEDDED else policies.store.url


def base_url(listen: Listen) -> str:
    """How this machine reaches the gateway."""
    host = _ANY.get(listen.host, listen.host)
    return f"http://[{host}]:{listen.port}" if ":" in host else f"http://{host}:{listen.port}"
