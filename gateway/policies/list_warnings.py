"""Lists of addresses that do nothing, or more than somebody meant. For the warnings of `sluice check`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gateway.policies.limits import Limit
from gateway.policies.lists import AddressList
from gateway.policies.model import Policies


def list_warnings(policies: Policies, now: float) -> Iterator[str]:
    trust = policies.trust
    for entry in trust.proxies.entries:
        if entry.network.prefixlen == 0:
            yield (
                f"trust.proxies: {entry.network} believes everybody's X-Forwarded-For, so each client chooses its own "
                "address; name your proxies only"
            )
    for place, listed in (*((f"lists.{name}", it) for name, it in trust.lists.items()), ("deny", trust.deny)):
        yield from (f"trust.{place}: {it.network} is everybody" for it in listed.entries if not it.network.prefixlen)
    used = _used(policies.limits) | trust.denied | policies.admin.allowed | set(policies.clients.exempt)
    for name in sorted(trust.lists.keys() - used):
        yield f"trust.lists.{name}: never used"
    for index, limit in enumerate(policies.limits):
        yield from _without_effect(f"limits[{index}]", limit, policies, now)


def _used(limits: Sequence[Limit]) -> set[str]:
    exempt = {name for limit in limits for name in limit.exempt}
    return exempt | {name for limit in limits for it in limit.overrides if it.by == "list" for name in it.names}


def _without_effect(place: str, limit: Limit, policies: Policies, now: float) -> Iterator[str]:
    lists, deny = policies.trust.lists, policies.trust.deny
    exempt = AddressList.joined(lists[name] for name in limit.exempt)
    for name in limit.exempt:
        yield from (f"{place}.except: {what} before any limit" for what in _denied(name, lists[name], deny, now))
    for at, override in enumerate(limit.overrides):
        for name in override.names if override.by == "list" else ():
            where, listed = f"{place}.overrides[{at}]", lists[name]
            yield from (f"{where}: {what} before any limit" for what in _denied(name, listed, deny, now))
            if listed and all(exempt.covers(entry.network, now) for entry in listed.entries):
                yield f"{where}: never counts, because except leaves all of list {name} alone"


def _denied(name: str, listed: AddressList, deny: AddressList, now: float) -> Iterator[str]:
    denied = [entry.network for entry in listed.entries if deny.covers(entry.network, now)]
    if denied and len(denied) == len(listed.entries):
        yield f"trust.deny refuses all of list {name}"
    else:
        yield from (f"trust.deny refuses {network} of list {name}" for network in denied)
