"""What was refused in the last minute, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from relay.policies import OUTBOX
from sluice.console.messages.wording import SENDS_CURE, listed, some, things
from sluice.console.status import LastMinute, LimitDecisions, Share

_A_LARGE_SHARE = 0.5
_SOME = 3
_ENOUGH = 20  # requests: of fewer a share says little
_MANY_CUT = 30  # a minute: fewer are browsers that open connections ahead, and phones in a tunnel


def traffic(recent: LastMinute, *, store_answers: bool) -> Iterator[str]:
    for route, unsigned in recent.unsigned.items():
        yield from _unsigned(route, unsigned)
    if recent.unrouted:
        yield from _unrouted(recent.unrouted)
    if recent.unknown_prefixes:
        yield (
            f"{some(recent.unknown_prefixes, 'request was', 'requests were')} refused with 404 in the last minute, as "
            "no worker of sessions.workers has their prefix: compare it with LARAVEL_URL of each worker; the log names "
            "path and client"
        )
    if recent.returned:
        yield (
            f"{some(recent.returned, 'request was', 'requests were')} refused with 508 in the last minute, having "
            "passed this gateway before: an upstream, an endpoint or a worker leads back to it; sluice check names "
            "those that it can tell, and the log the path and the route"
        )
    if recent.ambiguous_paths >= _SOME:
        yield (
            f"{some(recent.ambiguous_paths, 'request was', 'requests were')} refused with 400 in the last minute, as "
            "their path can be read in more than one way and their route depends on it: the log names path and client; "
            "let those that are yours write it plainly, or write ambiguous_paths: allow at that route"
        )
    if recent.twins:
        twins = some(recent.twins, "registration of a worker was", "registrations of workers were")
        yield (
            f"{twins} refused in the last minute, as another live process has the same id: stop one of the two, or "
            "give it an id of its own; the log names both (worker.twin_refused)"
        )
    if recent.registrations:
        registrations = some(recent.registrations, "registration of a worker was", "registrations of workers were")
        yield (
            f"{registrations} refused in the last minute, as their secret may not say that id or url (sessions.keys), "
            "or it is an existing worker's: the log names id, url and the cure (worker.refused)"
        )
    for verify, calls in recent.signed_calls.items():
        if calls >= _SOME:
            yield (
                f"{some(calls, 'call was', 'calls were')} refused with 401 in the last minute by {verify}: a worker or "
                "publisher signs with another secret, or its clock is off"
            )
    for limit, decisions in recent.limits.items():
        yield from _limit(limit, decisions)
    if recent.held and store_answers:
        yield (
            f"{some(recent.held, 'webhook is', 'webhooks are')} held until there is room in a backlog, then refused: "
            "cure what delays the deliveries (sluice circuit list), or raise relay.backlog"
        )
    yield from _sends(recent.sends)
    for endpoint, refused in recent.refused.items():
        yield from _refused(endpoint, refused)
    if recent.undecided and store_answers:
        yield (
            f"{some(recent.undecided, 'request was', 'requests were')} decided without the store in the last minute, "
            "as when_store_away of their limits says: the store answers more slowly than store.timeout allows"
        )
    yield from _clients(recent.cut, recent.shares)
    yield from _connections(recent.connections_refused, recent.websockets_cut)
    if recent.websockets_stuck:
        yield (
            f"{some(recent.websockets_stuck, 'WebSocket was', 'WebSockets were')} closed with 1013 in the last minute, "
            "as large messages took more than clients.websocket.memory and theirs got no further: raise it, or lower "
            "clients.websocket.message"
        )
    if recent.bodies:
        yield (
            f"{some(recent.bodies, 'request was', 'requests were')} refused in the last minute because the memory for "
            "request bodies was used up: raise bodies"
        )


def _clients(cut: Mapping[str, int], shares: Mapping[str, int]) -> Iterator[str]:
    for upstream, requests in shares.items():
        yield (
            f"{some(requests, 'request was', 'requests were')} refused with 503 in the last minute, as one address has "
            f"its share of the connections to {upstream} (clients.share): the log names it; if it is a proxy or an "
            "office of yours, name it in trust.proxies, or in a list of clients.exempt"
        )
    connections = sum(cut.values())
    if connections >= _MANY_CUT:
        keys = listed([f"{times} by clients.{key}" for key, times in cut.items()])
        yield (
            f"{connections} connections of clients were cut in the last minute, as they kept us waiting ({keys}): the "
            "log names them (client.cut); refuse an address that does it on purpose (trust.deny)"
        )


def _connections(refused: int, websockets_cut: Mapping[str, int]) -> Iterator[str]:
    if refused:
        yield (
            f"{some(refused, 'connection was', 'connections were')} refused with 503 in the last minute, as too many "
            "files of a gateway are open: raise the limit (ulimit -n, LimitNOFILE of systemd, --ulimit nofile of "
            "Docker), or see who holds connections (ss -tn)"
        )
    for side, websockets in websockets_cut.items():
        yield (
            f"{some(websockets, 'WebSocket was', 'WebSockets were')} closed with 1008 in the last minute, as the "
            f"{side} sent more pings, pongs and empty fragments than clients.websocket.control allows: the log names "
            "route and client (websocket); raise it for those you know, or deny their addresses (trust.deny)"
        )


def _unsigned(route: str, unsigned: Share) -> Iterator[str]:
    if unsigned.these >= _SOME and unsigned.these >= _A_LARGE_SHARE * unsigned.total:
        yield (
            f"route {route}: {unsigned.these} of {unsigned.total} requests of the last minute got 401, and nobody "
            f"sends them again: compare the secrets of both sides, and their clocks"
        )


def _unrouted(unrouted: Share) -> Iterator[str]:
    if unrouted.these >= _ENOUGH and unrouted.these >= _A_LARGE_SHARE * unrouted.total:
        yield (
            f"{unrouted.these} of {unrouted.total} requests of the last minute match no route: sluice explain --path "
            f"PATH says so of one; see routes"
        )


def _limit(limit: str, decisions: LimitDecisions) -> Iterator[str]:
    counted = decisions.allowed + decisions.delayed + decisions.dropped + decisions.rejected
    if decisions.held and decisions.rejected:
        yield (
            f"limit {limit}: {decisions.rejected} of {counted} requests of the last minute waited for its tokens in "
            "vain and got 503; raise its rate or burst, or send less: sluice limits show says how full the buckets are"
        )
    elif counted >= _ENOUGH and decisions.rejected >= _A_LARGE_SHARE * counted:
        yield (
            f"limit {limit} refuses {decisions.rejected / counted:.0%}: {decisions.rejected} of {counted} requests of "
            "the last minute got 429; raise its rate or burst, or see in the log who sends, and with sluice limits "
            "show how full the buckets are"
        )


def _sends(sends: Mapping[str, int]) -> Iterator[str]:
    if unknown := sends.get("unknown"):
        yield (
            f"what became of {some(unknown, 'send', 'sends')} of the last minute is not known, as the worker broke off "
            "or did not answer in time, so repeats are not sent for two minutes: see send.unknown in the log, and the "
            "worker's own"
        )
    if unshielded := sends.get("unshielded"):
        yield (
            f"{some(unshielded, 'send was', 'sends were')} passed on in the last minute without the shield against "
            "repeats, as too many are under way: see why the workers are slow, or raise bodies"
        )
    if given_up := sends.get("given_up"):
        yield (
            f"{some(given_up, 'recipient', 'recipients')} of bulk-sends of the last minute got nothing, as an earlier "
            "part failed: see bulk.given_up in the log, and send to them again"
        )


def _refused(endpoint: str, refused: Mapping[str, int]) -> Iterator[str]:
    full, away, stale = refused.get("backlog_full", 0), refused.get("store_away", 0), refused.get("stale_fence", 0)
    others = sum(refused.values()) - full - away - stale
    if full:
        delayed = "cure what delays the deliveries (sluice circuit list), or raise relay.backlog"
        yield (
            f"{endpoint}: {things(endpoint, full, 'was', 'were')} refused in the last minute because the backlog is "
            f"full: {SENDS_CURE if endpoint == OUTBOX else delayed}"
        )
    if away:
        yield (
            f"{endpoint}: {things(endpoint, away, 'was', 'were')} refused in the last minute because the store did "
            "not take them: see what is wrong with the store"
        )
    if stale:
        yield (
            f"{endpoint}: {some(stale, 'event', 'events')} of a worker that no longer owns the session "
            f"{'was' if stale == 1 else 'were'} refused in the last minute (stale fence): it went on after its lease "
            "had ended; see its log and its clock, and what it runs: sluice sessions list"
        )
    if others:
        yield f"{endpoint}: {some(others, 'event was', 'events were')} refused in the last minute"
