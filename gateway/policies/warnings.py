"""What is allowed and still worth a word: the warnings of `sluice check`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

from gateway.policies import paths
from gateway.policies.alert_warnings import alert_warnings
from gateway.policies.applicability import can_apply, streams, takes_sends
from gateway.policies.limits import Limit
from gateway.policies.list_warnings import list_warnings
from gateway.policies.lists import AddressList, ListEntry
from gateway.policies.model import Policies
from gateway.policies.routes import JsonPointer, Route, ToRelay, ToWorkers
from gateway.policies.vault_warnings import vault_warnings
from sessions.policies import SessionsPolicy
from sluice.config import Listen
from sluice.config.listening import EVERYWHERE, Listener
from sluice.http.addresses import is_literal

SHORTEST_SECRET = 16
"""Bytes: 128 bits, where it is random."""
IPV4, IPV6 = ip_address("127.0.0.1"), ip_address("::1")
_KEYLESS = ("/cleanup/**", "/remoteauth/**", "/api/internal/**")
"""Paths of existing workers that need no API_KEY and are no business of a stranger."""
LOOPBACK = {"127.0.0.1": IPV4, "localhost": IPV4, "::1": IPV6}


def warnings(policies: Policies, now: float) -> Iterator[str]:
    yield from _ended(policies, now)
    yield from list_warnings(policies, now)
    for name in sorted(policies.signatures.keys() - _signatures_used(policies)):
        yield f"signatures.{name}: never used"
    for index, route in enumerate(policies.routes):
        if isinstance(route.action, ToRelay) and route.verify is None:
            yield f"routes[{index}]: relays without verify; anybody can post events"
    for index, limit in enumerate(policies.limits):
        yield from _limit_warnings(f"limits[{index}]", limit, policies.routes)
        yield from _left_out(f"limits[{index}]", limit, policies)
        yield from _shared_by_mistake(f"limits[{index}]", limit, policies, now)
        yield from _override_warnings(f"limits[{index}].overrides", limit, policies.trust.lists)
    yield from _short_secrets(policies)
    yield from _without_instance_url(policies)
    yield from _past_us(policies.sessions)
    yield from _one_machine_twice(policies.sessions)
    yield from _open_list(policies)
    yield from _keys_of_all(policies)
    yield from vault_warnings(policies)
    yield from alert_warnings(policies)
    yield from _hidden_from_workers(policies.routes)
    yield from _keyless(policies)
    yield from _commands_left_out(policies, now)
    if policies.console.token is None:
        yield "console: no token; the console and admin API are closed"


def _short_secrets(policies: Policies) -> Iterator[str]:
    """Whoever has one message and its signature can try out secrets as fast as his machines can."""
    found = [(f"signatures.{name}", it) for name, one in policies.signatures.items() for it in one.secrets]
    found += [
        (f"sessions.workers[{at}].key", it.key) for at, it in enumerate(policies.sessions.workers) if it.key is not None
    ]
    if policies.console.token is not None:
        found.append(("console.token", policies.console.token))
    if policies.console.read is not None:
        found.append(("console.read", policies.console.read))
    for place, secret in dict.fromkeys(found):
        if 0 < len(secret.reveal()) < SHORTEST_SECRET:
            cure = "make one with openssl rand -hex 32"
            yield f"{place}: the secret has under {SHORTEST_SECRET} bytes and can be guessed; {cure}"


def _without_instance_url(policies: Policies) -> Iterator[str]:
    """By it Laravel knows which worker it is to call for a session."""
    relayed = {
        name
        for route in policies.routes
        if isinstance(route.action, ToRelay) and route.verify and policies.signatures[route.verify].preset == "blazz"
        for name in route.action.endpoints
    }
    for name in sorted(relayed):
        endpoint = policies.relay.endpoints[name]
        named = {header.lower() for header in (*endpoint.forward, *(header for header, _ in endpoint.headers))}
        if endpoint.sign and policies.signatures[endpoint.sign].preset == "blazz" and "x-instance-url" not in named:
            cure = "write forward: [X-Instance-Url, X-Forwarded-For] if it is Laravel"
            yield f"relay.endpoints.{name}: is not told which worker a webhook comes from; {cure}"


def _past_us(sessions: SessionsPolicy) -> Iterator[str]:
    """What lets existing workers and Laravel go past the gateway."""
    if sessions.workers and sessions.advertise is None:
        cure = "write advertise: with this gateway's address, as Laravel reaches it"
        yield f"sessions: no advertise, so Laravel stores the workers' own addresses and calls them past Sluice; {cure}"
    if sessions.shields.divide and len(sessions.workers) > 1:
        for index, worker in enumerate(sessions.workers):
            if not worker.prefix:
                cure = "write prefix: /w/w1, and the same at the end of its LARAVEL_URL"
                place = f"sessions.workers[{index}]"
                yield f"{place}: no prefix, so {worker.name} starts the sessions of all workers; {cure}"


def _one_machine_twice(sessions: SessionsPolicy) -> Iterator[str]:
    """Names that lead to one address, so far as the file tells."""
    known: dict[tuple[object, int | None, str], int] = {}
    for index, worker in enumerate(sessions.workers):
        parts = urlsplit(worker.url)
        here = parts.hostname in LOOPBACK
        first = known.setdefault(("here" if here else parts.hostname, parts.port, parts.path), index)
        if first != index:
            cure = "keep one of them: each of its sessions would be disputed"
            yield f"sessions.workers[{index}]: {worker.url} and sessions.workers[{first}] are one address; {cure}"


def _open_list(policies: Policies) -> Iterator[str]:
    """The list has every tenant's phone numbers, and is asked for as the workers would ask."""
    workers = policies.sessions.workers
    if not workers or any(worker.key for worker in workers):
        return
    for index, route in enumerate(policies.routes):
        if isinstance(route.action, ToWorkers) and route.action.how == "list" and route.verify is None:
            cure = "give the workers an API_KEY, and write key: beside their url"
            yield f"routes[{index}]: no worker has a key, so anybody can list all sessions with their numbers; {cure}"


def _keys_of_all(policies: Policies) -> Iterator[str]:
    """Secrets of workers that say more than the file seems to say."""
    sessions, first = policies.sessions, dict[bytes, str]()
    if sessions.keys and sessions.verify:
        cure = "remove it, if that is not meant"
        yield f"sessions.verify: speaks for every worker, also for those in sessions.keys; {cure}"
    for index, key in enumerate(sessions.keys):
        for secret in policies.signatures[key.signature].secrets:
            place = f"sessions.keys[{index}]"
            other = first.setdefault(secret.reveal(), place)
            if secret.reveal() and other != place:
                yield f"{place}: has the secret of {other}, so each of them speaks for both; give it one of its own"


def _hidden_from_workers(routes: Sequence[Route]) -> Iterator[str]:
    """Requests of a worker's route that an earlier one takes elsewhere. One that takes all of them is a mistake."""
    for index, route in enumerate(routes):
        if not isinstance(route.action, ToWorkers):
            continue
        for at, other in enumerate(routes[:index]):
            methods = other.methods & route.methods if route.methods else other.methods
            if (
                methods
                and _share_a_listener(other, route)
                and not isinstance(other.action, ToWorkers)
                and paths.covers(other.path, route.path)
            ):
                taken = f"routes[{at}] ({other.path}) takes {', '.join(sorted(methods))} of {route.path} before it"
                yield f"routes[{index}]: {taken}, past the workers; put this one first, if that is not meant"


def _share_a_listener(one: Route, other: Route) -> bool:
    return not one.on or not other.on or not set(one.on).isdisjoint(other.on)


def _keyless(policies: Policies) -> Iterator[str]:
    """What existing workers do for anybody who asks, where others than this machine ask."""
    found = [
        (index, route, listener)
        for index, route in enumerate(policies.routes)
        if isinstance(route.action, ToWorkers) and route.verify is None and _is_keyless(route.path)
        for listener in policies.listen
        if not listener.is_local and (not route.on or listener.name in route.on)
    ]
    if found:
        routes = list(dict.fromkeys(f"routes[{index}] ({route.path})" for index, route, _ in found))
        listeners = list(dict.fromkeys(listener.name for _, _, listener in found))
        cure = "give Laravel's calls to the workers a listener of their own on 127.0.0.1, and write on: with its name"
        yield (
            f"{', '.join(routes)}: workers ask for no key there, and not only this machine reaches "
            f"{', '.join(listeners)}; {cure}"
        )


def _is_keyless(path: str) -> bool:
    return any(paths.covers(keyless, path) or paths.covers(path, keyless) for keyless in _KEYLESS)


def _commands_left_out(policies: Policies, now: float) -> Iterator[str]:
    """`sluice status` asks the gateway as anybody does."""
    allow, listener = policies.admin.allow, (policies.admin.listen or policies.listen)[0]
    local = listener.is_local or (isinstance(listener.address, Listen) and listener.address.host in EVERYWHERE)
    if allow and local and not allow.holds(IPV4, now) and not allow.holds(IPV6, now):
        yield f"admin.allow: leaves out this machine, so sluice status gets 403 on {listener.name}; add 127.0.0.1"


def _signatures_used(policies: Policies) -> set[str | None]:
    verified = {route.verify for route in policies.routes} | {policies.sessions.verify, policies.relay.verify}
    verified |= {key.signature for key in policies.sessions.keys}
    verified |= {policies.sessions.vault.verify} if policies.sessions.vault else set()
    verified |= {receiver.sign for receiver in policies.alerts.receivers.values()}
    return verified | {endpoint.sign for endpoint in policies.relay.endpoints.values()}


def _limit_warnings(place: str, limit: Limit, routes: tuple[Route, ...]) -> Iterator[str]:
    met = [route for route in routes if can_apply(limit, route)]
    if limit.over == "queue" and met and not any(isinstance(it.action, ToRelay) or takes_sends(it) for it in met):
        yield f"{place}: over: queue keeps what is relayed and sends, and no route it meets takes any; it rejects"
    for route in met if isinstance(limit.cost, JsonPointer) else ():
        if streams(route):
            most = route.most(whole=True)
            yield f"{place}: its cost makes {route.path} read bodies, up to {most} bytes, that it would stream"


def _left_out(place: str, limit: Limit, policies: Policies) -> Iterator[str]:
    if ("limits", limit.id, "burst") not in policies.written:
        yield f"{place}: no burst, so it is the amount of the rate: {limit.burst} at once"
    if ("limits", limit.id, "per") not in policies.written:
        cure = "write per: [session] or per: [ip], or per: [] if that is meant"
        yield f"{place}: no per, so all requests share one bucket of {limit.burst}; {cure}"


def _shared_by_mistake(place: str, limit: Limit, policies: Policies, now: float) -> Iterator[str]:
    """Addresses that stand for many."""
    if set(limit.per) - {"event"} != {"ip"} or limit.observe:
        return
    exempt = AddressList.joined(policies.trust.lists[name] for name in limit.exempt)
    here = _here(policies)
    if here and exempt.holds(here, now):
        return  # everybody is
    if here and not policies.trust.proxies:
        cure = "if a proxy on this machine sends them, add it to trust.proxies"
        on = _shown(policies.listen[0])
        yield f"{place}: per: [ip], and on {on} every client has the address of this machine; {cure}"
    met = [it for it in policies.routes if isinstance(it.action, ToRelay) and it.verify and can_apply(limit, it)]
    if met and not _leaves_workers_alone(limit, exempt, policies, now):
        cure = "put the workers' addresses into a list workers, and that into except"
        yield f"{place}: counts all sessions of a worker together on {met[0].path}; {cure}"


def _here(policies: Policies) -> IPv4Address | IPv6Address | None:
    """The address that every client has; None: others than this machine ask, too."""
    if not all(listener.is_local for listener in policies.listen):
        return None
    address = policies.listen[0].address
    return IPV6 if isinstance(address, Listen) and address.host == "::1" else IPV4


def _shown(listener: Listener) -> str:
    return listener.address.host if isinstance(listener.address, Listen) else str(listener.address)


def _leaves_workers_alone(limit: Limit, exempt: AddressList, policies: Policies, now: float) -> bool:
    """The list that is called so says it, or else the addresses that the file knows."""
    hosts = [urlsplit(worker.url).hostname or "" for worker in policies.sessions.workers]
    known = [ip_address(host) for host in hosts if is_literal(host) and host != "localhost"]
    return "workers" in limit.exempt or (bool(known) and all(exempt.holds(address, now) for address in known))


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
