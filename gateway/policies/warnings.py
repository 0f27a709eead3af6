"""What is allowed and still worth a word: the warnings of `sluice check`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from gateway.policies.applicability import can_apply, streams
from gateway.policies.limits import Limit
from gateway.policies.lists import AddressList, ListEntry
from gateway.policies.model import Policies
from gateway.policies.routes import JsonPointer, Route, ToRelay


def warnings(policies: Policies, now: float) -> Iterator[str]:
    yield from _ended(policies, now)
    for name in sorted(policies.signatures.keys() - _signatures_used(policies)):
        yield f"signatures.{name}: never used"
    for index, route in enumerate(policies.routes):
        if isinstance(route.action, ToRelay) and route.verify is None:
            yield f"routes[{index}]: relays without verify; anybody can post events"
    for index, limit in enumerate(policies.limits):
        yield from _limit_warnings(f"limits[{index}]", limit, policies.routes)
        yield from _override_warnings(f"limits[{index}].overrides", limit, policies.trust.lists)
    if policies.console.token is None:
        yield "console: no token; the console and admin API are closed"


def _signatures_used(policies: Policies) -> set[str | None]:
    verified = {route.verify for route in policies.routes} | {policies.sessions.verify, policies.relay.verify}
    return verified | {endpoint.sign for endpoint in policies.relay.endpoints.values()}


def _limit_warnings(place: str, limit: Limit, routes: tuple[Route, ...]) -> Iterator[str]:
    met = [route for route in routes if can_apply(limit, route)]
    if limit.over == "queue" and met and not any(isinstance(route.action, ToRelay) for route in met):
        yield f"{place}: over: queue delays what is relayed, and no route it meets relays; it rejects"
    for route in met if isinstance(limit.cost, JsonPointer) else ():
        if streams(route):
            yield f"{place}: its cost makes {route.path} read bodies, up to {route.body} bytes, that it would stream"


def _override_warnings(place: str, limit: Limit, lists: Mapping[str, AddressList]) -> Iterator[str]:
    for at, override in enumerate(limit.overrides):
        for name in override.names if override.by == "list" and override.rate else ():
            for network in (entry.network for entry in lists[name].entries):
                shared = limit.prefixes[0 if network.version == 4 else 1]
                if network.prefixlen > shared:
                    yield f"{place}[{at}]: {network} of list {name} shares its bucket with the rest of its /{shared}"


def _ended(policies: Policies, now: float) -> Iterator[str]:
    """What an end date has switched off. It stays in the file until somebody decides."""
    named = [(f"trust.lists.{name}", entry) for name, one in policies.trust.lists.items() for entry in one.entries]
    known = {entry for _, entry in named}
    denied = [("trust.deny", entry) for entry in policies.trust.deny.entries if entry not in known]
    for place, entry in named + denied:
        if entry.until is not None and entry.until <= now:
            yield f"{place}: {_entry(entry)} ended at {_moment(entry.until)} and no longer counts"
    for index, limit in enumerate(policies.limits):
        for at, override in enumerate(limit.overrides):
            if override.until is not None and override.until <= now:
                yield f"limits[{index}].overrides[{at}]: ended at {_moment(override.until)} and no longer counts"


def _entry(entry: ListEntry) -> str:
    return f"{entry.network} ({entry.note})" if entry.note else str(entry.network)


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
