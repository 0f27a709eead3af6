"""What reads well and can never do what it says. Looked for in a file that has no other mistake.

A line that has no effect is one that somebody relies on, so it is a mistake and no remark.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

from gateway.policies import paths
from gateway.policies.applicability import can_apply, can_be_about, provides, streams, takes_sends
from gateway.policies.limits import Limit
from gateway.policies.model import BODIES, Policies
from gateway.policies.routes import Fixed, JsonPointer, Route, ToRelay
from sluice.config.listening import conflict
from sluice.config.problems import Malformed, quoted
from sluice.http.senders import ID_HEADERS
from sluice.http.signatures import AGEING, proof_of
from sluice.process.addresses import leads_to

Found = Iterator[tuple[tuple[str | int, ...], Malformed]]
"""Where it stands, and what is wrong."""


def contradictions(policies: Policies) -> Found:
    yield from _bodies_over_the_budget(policies)
    yield from _shadowed(policies.routes)
    yield from _taken_by_prefixes(policies)
    yield from _admin(policies)
    yield from _console(policies)
    yield from _proofs_forwarded(policies)
    yield from _leading_back(policies)
    yield from _without_effect(policies.limits)
    yield from _held_although_relayed(policies.limits, policies.routes)
    yield from _mail_without_server(policies)
    if policies.routes:  # without any, nothing is known of what will come
        yield from _of_sends_without_any(policies.limits, policies.routes)
        yield from _events_of_no_route(policies.limits, policies.routes)
        yield from _subjects_of_no_route(policies.limits, policies.routes)


def _mail_without_server(policies: Policies) -> Found:
    for name, receiver in policies.alerts.receivers.items():
        if receiver.mail and policies.alerts.mail is None:
            cure = "write alerts.mail: {server: smtp.example.com:587, from: sluice@example.com}"
            yield ("alerts", "receivers", name, "mail"), Malformed("there is no server that takes mail", cure)


def _bodies_over_the_budget(policies: Policies) -> Found:
    costs = [limit for limit in policies.limits if isinstance(limit.cost, JsonPointer)]
    read = [it for it in policies.routes if not streams(it) or any(can_apply(limit, it) for limit in costs)]
    route = max(read, key=lambda route: route.most(whole=True), default=None)
    if route is not None and (most := route.most(whole=True)) > policies.bodies:
        index, size, held = policies.routes.index(route), _size(most), _size(policies.bodies)
        if policies.bodies == BODIES:
            message = f"{size} is more than bodies, of which one process holds {held}"
            yield ("routes", index, "body"), Malformed(message, f"write less, or bodies: {size} at the top")
        else:
            message = f"{held} does not hold one body of routes[{index}] ({route.path}), which may have {size}"
            yield ("bodies",), Malformed(message, f"write {size} or more, or a smaller body: in the route")


def _size(size: int) -> str:
    """As it is written, rounded up."""
    unit, name = (2**20, "MiB") if size >= 2**20 else (2**10, "KiB")
    return f"{-(-size // unit)}{name}"


def _shadowed(routes: Sequence[Route]) -> Found:
    for index, route in enumerate(routes):
        covering = [
            (at, other)
            for at, other in enumerate(routes[:index])
            if paths.covers(other.path, route.path) and _takes_its_listeners(other, route)
        ]
        taking = _taking(covering, route.methods)
        if taking:
            earlier = " and ".join(f"routes[{at}] ({other.path})" for at, other in taking)
            message = f"never matches: {earlier} {'take' if len(taking) > 1 else 'takes'} its requests before it"
            yield ("routes", index, "path"), Malformed(message, "put it first, or remove it")


def _takes_its_listeners(other: Route, route: Route) -> bool:
    return not other.on or (bool(route.on) and set(route.on) <= set(other.on))


def _admin(policies: Policies) -> Found:
    admin = policies.admin
    for listener in admin.listen:
        malformed = conflict(listener, policies.listen)
        if malformed is not None:
            message = f"{malformed.message}, in listen"
            yield ("admin", "listen"), Malformed(message, "write another; without admin.listen it answers there, too")
            break
    if admin.metrics == "token" and policies.console.token is None:
        message = "requires console.token, which is not set"
        yield ("admin", "metrics"), Malformed(message, "write console: {token: env:SLUICE_CONSOLE_TOKEN}, or open")


def _console(policies: Policies) -> Found:
    console = policies.console
    if console.read is None:
        return
    if console.token is None:
        yield ("console", "read"), Malformed("requires console.token, which is not set", "set both, or only the token")
    elif console.read == console.token and console.read.reveal():
        yield ("console", "read"), Malformed("is the same as console.token", "make another: openssl rand -hex 32")


def _taking(covering: Sequence[tuple[int, Route]], methods: frozenset[str]) -> Sequence[tuple[int, Route]]:
    """Those that leave nothing of the methods; empty: something is left."""
    for at, other in covering:
        if not other.methods or (methods and methods <= other.methods):
            return [(at, other)]
    taken = frozenset[str]().union(*(other.methods for _, other in covering))
    return [(at, other) for at, other in covering if other.methods & methods] if methods and methods <= taken else []


def _taken_by_prefixes(policies: Policies) -> Found:
    """What a worker sends below its prefix is routed without it, so no route sees that path."""
    for index, worker in enumerate(policies.sessions.workers):
        for at, route in enumerate(policies.routes):
            if worker.prefix and paths.covers(f"{worker.prefix}/**", route.path):
                message = f"{quoted(worker.prefix)} takes all requests of routes[{at}] ({route.path})"
                yield ("sessions", "workers", index, "prefix"), Malformed(message, "write another, such as /w/w1")
                break


def _proofs_forwarded(policies: Policies) -> Found:
    """What proves somebody to us is sent on to nobody, and a new signature has headers of its own."""
    proofs = {
        name: f"proves requests (signatures.{each.name})"
        for each in policies.signatures.values()
        for name in proof_of(each).names
    }
    made_anew = dict.fromkeys(AGEING, "is made anew for each attempt") | proofs
    for endpoint in policies.relay.endpoints.values():
        for at, name in enumerate(endpoint.forward):
            why = made_anew.get(name.lower().encode())
            if why is not None and name.lower().encode() not in ID_HEADERS:
                place = ("relay", "endpoints", endpoint.name, "forward", at)
                yield place, Malformed(f"{quoted(name)} {why}, and is never sent on", "remove it")


def _leading_back(policies: Policies) -> Found:
    """What would be asked of the gateway itself, again and again."""
    urls: list[tuple[tuple[str | int, ...], str]] = [
        *((("upstreams", each.name, "url"), each.url) for each in policies.upstreams.values() if not each.urls),
        *(
            (("upstreams", each.name, "urls", at), url)
            for each in policies.upstreams.values()
            for at, url in enumerate(each.urls)
        ),
        *((("relay", "endpoints", each.name, "url"), each.url) for each in policies.relay.receivers.values()),
        *((("sessions", "workers", at, "url"), each.url) for at, each in enumerate(policies.sessions.workers)),
    ]
    for place, url in urls:
        if any(leads_to(listener.address, url) for listener in policies.listeners):
            message = f"{quoted(url)} is this gateway itself (listen)"
            yield place, Malformed(message, "write the address of the one that is meant, or another port to listen on")


def _without_effect(limits: Sequence[Limit]) -> Found:
    for index, limit in enumerate(limits):
        for at, other in enumerate(limits):
            if index == at or not _is_redundant(limit, other) or (index < at and _is_redundant(other, limit)):
                continue
            tighter = f'limits[{at}] ("{other.id}", {other.rate}, burst {other.burst})'
            message = f"never refuses anything: {tighter} allows no more, at once and over time, for the same requests"
            yield ("limits", index, "rate"), Malformed(message, f"remove it, or raise limits[{at}]")
            break


def _held_although_relayed(limits: Sequence[Limit], routes: Sequence[Route]) -> Found:
    """Where a route reads its event type from the request nobody knows which it will be, unless no other is met."""
    for index, limit in enumerate(limits):
        met = [(at, route) for at, route in enumerate(routes) if limit.over == "hold" and can_apply(limit, route)]
        relays = [(at, route) for at, route in met if isinstance(route.action, ToRelay)]
        if len(relays) < len(met):
            relays = [it for it in relays if not limit.events or isinstance(it[1].event, Fixed)]
        if relays:
            at, route = relays[0]
            message = f"hold keeps callers waiting, and routes[{at}] ({route.path}) answers at once and delivers later"
            yield ("limits", index, "over"), Malformed(message, "write queue, or event: with what no such route has")


def _of_sends_without_any(limits: Sequence[Limit], routes: Sequence[Route]) -> Found:
    for index, limit in enumerate(limits):
        if limit.of_sends and not any(takes_sends(route) and can_apply(limit, route) for route in routes):
            message = "is for sends, and no route that the limit meets takes any (POST, workers: owner)"
            for key in limit.of_sends:
                yield ("limits", index, key), Malformed(message, "remove it")


def _is_redundant(limit: Limit, other: Limit) -> bool:
    """Whatever the other one lets pass, this one lets pass too.

    The other one counts at least the same requests in one bucket, and both its rate and its burst are no larger. So
    `100/second` beside `1000/minute` is well (the longer window has the larger burst), beside `50/minute` it is dead.
    """
    return (
        _counts_at_least(other, limit)
        and other.rate.interval >= limit.rate.interval
        and other.burst <= limit.burst
        and other.cost == limit.cost
        and (other.over, other.when_store_away, other.hours) == (limit.over, limit.when_store_away, limit.hours)
        and limit.enforce == other.enforce == 1.0
        and not limit.overrides
        and not other.overrides
    )


def _counts_at_least(other: Limit, limit: Limit) -> bool:
    """Each bucket of the limit holds requests that are all in one bucket of the other one."""
    return (
        set(other.per) <= set(limit.per)
        and all(mine <= theirs for mine, theirs in zip(other.prefixes, limit.prefixes, strict=True))
        and set(other.exempt) <= set(limit.exempt)
        and (not other.events or (bool(limit.events) and all(_covered(event, other) for event in limit.events)))
    )


def _covered(event: str, by: Limit) -> bool:
    return any(event == pattern or ("*" not in event and fnmatchcase(event, pattern)) for pattern in by.events)


def _events_of_no_route(limits: Sequence[Limit], routes: Sequence[Route]) -> Found:
    events = [route.event for route in routes if route.event is not None]
    known = [event.value for event in events if isinstance(event, Fixed)]
    if len(known) < len(events):
        return  # one is read from the requests, and can be any
    for index, limit in enumerate(limits):
        for at, pattern in enumerate(limit.events):
            if not any(fnmatchcase(event, pattern) for event in known):
                close = get_close_matches(pattern, known, n=1)
                cure = f"did you mean {close[0]}" if close else "add event: to a route"
                yield ("limits", index, "event", at), Malformed(f"no route has the event {quoted(pattern)}", cure)


def _subjects_of_no_route(limits: Sequence[Limit], routes: Sequence[Route]) -> Found:
    for index, limit in enumerate(limits):
        spoken_of = [route for route in routes if can_be_about(limit, route)]
        if not spoken_of or any(can_apply(limit, route) for route in spoken_of):
            continue
        missing = [subject for subject in limit.per if not any(provides(route, subject) for route in spoken_of)]
        subjects = " and ".join(f"the {subject}" for subject in missing or limit.per)
        message = f"no route of its events says where to find {subjects}, so it never applies"
        yield ("limits", index, "per"), Malformed(message, f"add {(missing or limit.per)[0]}: to the route")
