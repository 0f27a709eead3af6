"""Whether a store that we do not run keeps what `store.promise` says a 202 buys."""

from __future__ import annotations

from sluice.config import Promise, StorePolicy
from sluice.observe.log import Log
from sluice.store.client import Store, StoreAway, StoreRefused

LOG = Log("store")

_NEEDED: dict[Promise, dict[str, set[str]]] = {
    "memory": {},
    "second": {"appendonly": {"yes"}, "appendfsync": {"everysec", "always"}},
    "always": {"appendonly": {"yes"}, "appendfsync": {"always"}},
    "replica": {"appendonly": {"yes"}, "appendfsync": {"everysec", "always"}},
}
_ALWAYS_NEEDED = {"maxmemory-policy": {"noeviction"}}


class PromiseBroken(Exception):
    """A 202 would promise what the store does not keep; the message says what to do."""


class Unknowable(Exception):
    """The store does not let itself be asked (a managed one that forbids CONFIG)."""


async def check(policy: StorePolicy) -> None:
    """Asks a store that somebody else runs whether a 202 will be true. Raises PromiseBroken when it would not be."""
    if policy.url == "embedded":
        return
    store = Store(policy.url, timeout=3.0)
    try:
        wrong = await broken(store, policy.promise)
    except (Unknowable, StoreAway) as error:
        LOG.warning("store.promise_unknown", promise=policy.promise, reason=str(error))
        return
    finally:
        await store.close()
    if wrong:
        raise PromiseBroken(
            f"store.promise: the store does not keep `{policy.promise}`: {'; '.join(wrong)}; "
            "set it so (CONFIG SET, and its configuration file), or promise less"
        )


async def broken(store: Store, promise: Promise) -> list[str]:
    """What the store (each server of a cluster) would have to be set to, in words; empty when it keeps the promise.

    Raises Unknowable or StoreAway.
    """
    wrong = list[str]()
    for name, allowed in (_NEEDED[promise] | _ALWAYS_NEEDED).items():
        try:
            answers = await store.each(("CONFIG", "GET", name))
        except StoreRefused as error:
            raise Unknowable(str(error)) from error
        found = {setting[1].decode() if setting else "unknown" for (setting,) in answers}
        wrong += [f"{name} is {other}, it must be {' or '.join(sorted(allowed))}" for other in sorted(found - allowed)]
    return wrong
