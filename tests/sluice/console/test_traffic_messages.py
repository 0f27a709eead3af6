from __future__ import annotations

import pytest

from sluice.console.status import LastMinute, LimitDecisions, Share, StoreStatus
from tests.sluice.console.saying import said


def recent(**what: object) -> LastMinute:
    return LastMinute(**what)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("last_minute", "sentence"),
    [
        (
            recent(limits={"send": LimitDecisions(allowed=50, delayed=8, dropped=2, rejected=340)}),
            "limit send refuses 85%: 340 of 400 requests of the last minute got 429; raise its rate or burst, or see "
            "in the log who sends, and with sluice limits show how full the buckets are",
        ),
        (
            recent(limits={"send": LimitDecisions(allowed=27, held=30, rejected=13)}),
            "limit send: 13 of 40 requests of the last minute waited for its tokens in vain and got 503; raise its "
            "rate or burst, or send less: sluice limits show says how full the buckets are",
        ),
        (
            recent(sends={"joined": 7, "unknown": 3}),
            "what became of 3 sends of the last minute is not known, as the worker broke off or did not answer in "
            "time, so repeats are not sent for two minutes: see send.unknown in the log, and the worker's own",
        ),
        (
            recent(sends={"unshielded": 1}),
            "1 send was passed on in the last minute without the shield against repeats, as too many are under way: "
            "see why the workers are slow, or raise bodies",
        ),
        (
            recent(sends={"given_up": 12}),
            "12 recipients of bulk-sends of the last minute got nothing, as an earlier part failed: see "
            "bulk.given_up in the log, and send to them again",
        ),
        (
            recent(refused={"laravel": {"backlog_full": 40}}),
            "laravel: 40 events were refused in the last minute because the backlog is full: cure what delays the "
            "deliveries (sluice circuit list), or raise relay.backlog",
        ),
        (
            recent(refused={"laravel": {"store_away": 1}}),
            "laravel: 1 event was refused in the last minute because the store did not take them: see what is wrong "
            "with the store",
        ),
        (
            recent(unsigned={"/hooks/*": Share(40, 41)}),
            "route /hooks/*: 40 of 41 requests of the last minute got 401, and nobody sends them again: compare the "
            "secrets of both sides, and their clocks",
        ),
        (
            recent(shares={"laravel": 5}),
            "5 requests were refused with 503 in the last minute, as one address has its share of the connections to "
            "laravel (clients.share): the log names it; if it is a proxy or an office of yours, name it in "
            "trust.proxies, or in a list of clients.exempt",
        ),
        (
            recent(returned=1),
            "1 request was refused with 508 in the last minute, having passed this gateway before: an upstream, an "
            "endpoint or a worker leads back to it; sluice check names those that it can tell, and the log the path "
            "and the route",
        ),
        (
            recent(ambiguous_paths=3),
            "3 requests were refused with 400 in the last minute, as their path can be read in more than one way and "
            "their route depends on it: the log names path and client; let those that are yours write it plainly, or "
            "write ambiguous_paths: allow at that route",
        ),
        (
            recent(cut={"send": 40, "body": 5}),
            "45 connections of clients were cut in the last minute, as they kept us waiting (40 by clients.send and 5 "
            "by clients.body): the log names them (client.cut); refuse an address that does it on purpose (trust.deny)",
        ),
        (
            recent(unrouted=Share(30, 50)),
            "30 of 50 requests of the last minute match no route: sluice explain --path PATH says so of one; "
            "see routes",
        ),
        (
            recent(unknown_prefixes=1),
            "1 request was refused with 404 in the last minute, as no worker of sessions.workers has their prefix: "
            "compare it with LARAVEL_URL of each worker; the log names path and client",
        ),
        (
            recent(twins=3),
            "3 registrations of workers were refused in the last minute, as another live process has the same id: stop "
            "one of the two, or give it an id of its own; the log names both (worker.twin_refused)",
        ),
        (
            recent(registrations=1),
            "1 registration of a worker was refused in the last minute, as their secret may not say that id or url "
            "(sessions.keys), or it is an existing worker's: the log names id, url and the cure (worker.refused)",
        ),
        (
            recent(signed_calls={"sessions.verify": 5}),
            "5 calls were refused with 401 in the last minute by sessions.verify: a worker or publisher signs with "
            "another secret, or its clock is off",
        ),
        (
            recent(refused={"laravel": {"stale_fence": 2}}),
            "laravel: 2 events of a worker that no longer owns the session were refused in the last minute (stale "
            "fence): it went on after its lease had ended; see its log and its clock, and what it runs: sluice "
            "sessions list",
        ),
        (
            recent(undecided=3),
            "3 requests were decided without the store in the last minute, as when_store_away of their limits says: "
            "the store answers more slowly than store.timeout allows",
        ),
        (
            recent(connections_refused=40),
            "40 connections were refused with 503 in the last minute, as too many files of a gateway are open: raise "
            "the limit (ulimit -n, LimitNOFILE of systemd, --ulimit nofile of Docker), or see who holds connections "
            "(ss -tn)",
        ),
        (
            recent(websockets_cut={"client": 1}),
            "1 WebSocket was closed with 1008 in the last minute, as the client sent more pings, pongs and empty "
            "fragments than clients.websocket.control allows: the log names route and client (websocket); raise it for "
            "those you know, or deny their addresses (trust.deny)",
        ),
        (
            recent(websockets_stuck=3),
            "3 WebSockets were closed with 1013 in the last minute, as large messages took more than "
            "clients.websocket.memory and theirs got no further: raise it, or lower clients.websocket.message",
        ),
        (
            recent(bodies=1),
            "1 request was refused in the last minute because the memory for request bodies was used up: raise bodies",
        ),
        (
            recent(held=2),
            "2 webhooks are held until there is room in a backlog, then refused: cure what delays the deliveries "
            "(sluice circuit list), or raise relay.backlog",
        ),
    ],
)
def test_what_was_refused_lately_says_how_much_why_and_the_cure(last_minute: LastMinute, sentence: str) -> None:
    assert said(last_minute=last_minute) == [sentence]


@pytest.mark.parametrize(
    "decisions", [LimitDecisions(rejected=19), LimitDecisions(allowed=60, rejected=59), LimitDecisions(would_reject=99)]
)
def test_a_limit_that_refuses_few_or_only_observes_has_nothing_to_say(decisions: LimitDecisions) -> None:
    assert said(last_minute=recent(limits={"send": decisions})) == []


def test_while_the_store_is_away_only_that_is_said() -> None:
    (sentence,) = said(last_minute=recent(undecided=3, held=2), store=StoreStatus(False, "timed out"))
    assert sentence.startswith("the store does not answer (timed out)")


@pytest.mark.parametrize(
    "calm",
    [
        recent(unsigned={"/hooks/*": Share(2, 2)}),
        recent(unsigned={"/hooks/*": Share(40, 100)}),
        recent(unrouted=Share(19, 19)),
        recent(unrouted=Share(30, 100)),
        recent(signed_calls={"relay.verify": 2}),
        recent(cut={"first_byte": 29}),
        recent(ambiguous_paths=2),
    ],
)
def test_a_few_strangers_are_nothing_to_say(calm: LastMinute) -> None:
    assert said(last_minute=calm) == []
