"""Whether a store that we do not run keeps what `store.promise` says a 202 buys."""

from __future__ import annotations

from redis.exceptions import ConnectionError as NotConnected
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as NotInTime

from runtime.policies import Promise
from runtime.store import Store, StoreAway

_NEEDED: dict[Promise, dict[str, set[str]]] = {
    "memory": {},
    "second": {"appendonly": {"yes"}, "appendfsync": {"everysec", "always"}},
    "always": {"appendonly": {"yes"}, "appendfsync": {"always"}},
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
            found = (await store.redis.config_get(name)).get(name)
        except (NotConnected, NotInTime, OSError) as error:
            raise StoreAway(str(error)) from error
        except RedisError as error:
            raise Unknowable(str(error)) from error
        if found not in allowed:
            wrong.append(f"{name} is {found}, it must be {' or '.join(sorted(allowed))}")
    return wrong
