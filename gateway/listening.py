"""Which listener a request came to that another server has read. No I/O."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import Any

from sluice.config.listening import EVERYWHERE, Listener, UnixSocket
from sluice.http.server.exchange import LISTENER, LOCAL_PEER

_HERE = {"localhost": "127.0.0.1"}


def find_listener(scope: MutableMapping[str, Any], listeners: Sequence[Listener]) -> None:
    """Notes its name in the state of the scope, unless our own server has done so; and who comes over a unix socket."""
    state = scope.setdefault("state", {})
    if LISTENER not in state:
        state[LISTENER] = next((one.name for one in listeners if _is_at(one, scope.get("server"))), "")
    if scope.get("client") is None and any(
        one.name == state[LISTENER] and isinstance(one.address, UnixSocket) for one in listeners
    ):
        scope["client"] = LOCAL_PEER


def _is_at(listener: Listener, server: Sequence[Any] | None) -> bool:
    if not server:
        return False
    address = listener.address
    if isinstance(address, UnixSocket):
        return str(server[0]) == str(address.path)
    host = _HERE.get(address.host, address.host)
    return server[1] == address.port and (host in EVERYWHERE or host == server[0])
