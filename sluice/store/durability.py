"""Whether a store that we do not run keeps what `store.promise` says a 202 buys."""

from __future__ import annotations

from sluice.config import Promise
from sluice.store.client import Store, StoreRefused

_NEEDED: dict[Promise, dict[str, set[str]]] = {
    "memory": {},
    "second": {"appendonly": {"yes"}, "appendfsync": {"everysec", "always"}},
    "always": {"appendonly": {"yes"}, "appendfsync": {"always"}},
    "replica": {"appendonly": {"yes"}, "appendfsync": {"everysec", "always"}},
}
_ALWAYS_NEEDED = {"maxmemory-policy": {"noeviction"}}


class Unknowable(Exception):
    """The store does not let itself be asked (a managed one that forbids CONFIG)."""


async def broken(store: Store, promise: Promise) -> list[str]:
    """What the store would have to be set to, in words; empty when it keeps the promise.

    Raises Unknowable or StoreAway.
    """
    wrong = []
    for name, allowed in (_NEEDED[promise] | _ALWAYS_NEEDED).items():
        try:
            (setting,) = await store.commands(("CONFIG", "GET", name))
        except StoreRefused as error:
            raise Unknowable(str(error)) from error
        found = setting[1].decode() if setting else "unknown"
        if found not in allowed:
            wrong.append(f"{name} is {found}, it must be {' or '.join(sorted(allowed))}")
    return wrong
