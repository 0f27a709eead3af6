"""What waits, listed, shown, skipped and dropped from the command line, on a real store."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

import orjson
import pytest

from gateway.policies import load
from relay.process import open_queue
from relay.queue.codec import Event
from relay.queue.dead_letters import DeadLetters
from relay.queue.history import history_of
from relay.queue.queue import Queue, Settlement
from sluice.store.client import Store
from tests.relay.making import accept
from tests.sluice.cli.command import ROOT, command, environment, sluice

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

ID = "evt_0192f3a4b5c6d7e8f90a1b2c3d4e"


@pytest.fixture
def policies(tmp_path: Path, store_url: str) -> Path:
    file = tmp_path / "policies.yaml"
    endpoints = "{laravel: {url: http://127.0.0.1:1}, audit: {url: http://127.0.0.1:2}}"
    file.write_text(f'version: 1\nstore: {{url: "{store_url}"}}\nrelay: {{endpoints: {endpoints}}}\n')
    return file


def queue_of(store: Store, policies: Path, endpoint: str = "laravel") -> Queue:
    known = load(policies)
    return open_queue(store, known.relay.endpoints[endpoint], known)


async def wait(queue: Queue, identity: str, session: str | None = "s1", type_: str = "message_received") -> None:
    await accept(queue, Event(identity, type_, session, b"/hook", ((b"X-A", b"1"),), b'{"a":1}', lane="normal"))


def listed(policies: Path, *filters: str) -> list[str]:
    ran = sluice("queue", "list", "--json", *filters, "--policies", policies)
    assert (ran.code, ran.err) == (0, "")
    return [one["id"] for one in orjson.loads(ran.out)["events"]]


async def test_nothing_waits(store: Store, policies: Path) -> None:
    ran = sluice("queue", "list", "--policies", policies)
    assert (ran.code, ran.out, ran.err) == (0, "nothing waits\n", "")


async def test_it_is_listed_in_the_order_of_each_session_and_filtered(store: Store, policies: Path) -> None:
    laravel, audit = queue_of(store, policies), queue_of(store, policies, "audit")
    for number, session in enumerate(("s1", "s2", "s1")):
        await wait(laravel, f"evt_{number}", session, "session_connected" if number == 1 else "message_received")
    await wait(audit, "evt_3", "s1")
    gone = Queue(store, "gone", lease=5.0, max_bytes=10**6, max_events=100)
    await wait(gone, "evt_4", None)
    every = listed(policies)
    assert sorted(every) == [f"evt_{number}" for number in range(5)]
    assert every.index("evt_0") < every.index("evt_2")
    assert listed(policies, "--endpoint", "laravel", "--session", "s1") == ["evt_0", "evt_2"]
    assert listed(policies, "--session", "s1") == ["evt_3", "evt_0", "evt_2"]
    assert listed(policies, "--event", "session_*") == ["evt_1"]
    assert listed(policies, "--endpoint", "gone") == ["evt_4"]
    assert listed(policies, "--until", "1h") == []
    assert sorted(listed(policies, "--since", "1h")) == sorted(every)


async def test_a_page_says_where_the_next_one_begins(store: Store, policies: Path) -> None:
    queue = queue_of(store, policies)
    for number in range(7):
        await wait(queue, f"evt_{number}", f"s{number}")
    seen, after = [], ()
    while True:
        page = orjson.loads(sluice("queue", "list", "--json", "--limit", "3", *after, "--policies", policies).out)
        assert len(page["events"]) <= 3
        seen += [one["id"] for one in page["events"]]
        if page["next"] is None:
            break
        after = ("--after", page["next"])
    assert sorted(seen) == [f"evt_{number}" for number in range(7)]
    ran = sluice("queue", "list", "--limit", "3", "--policies", policies)
    assert ran.out.splitlines()[-1].startswith("there are more: the next page is --after ")


async def test_what_was_tried_says_what_came_of_it(store: Store, policies: Path) -> None:
    queue = queue_of(store, policies)
    await wait(queue, ID, "webjs_1")
    queue.look_everywhere()
    (leased,) = (await queue.poll([], 10)).leased
    ran = sluice("queue", "list", "--policies", policies)
    assert "being delivered" in ran.out
    await queue.poll([Settlement(leased, "retry", 60_000, "500 7 answered 500")], 0)
    ran = sluice("queue", "list", "--policies", policies)
    heading, row = ran.out.splitlines()
    assert heading.split("  ")[0].strip() == "id"
    assert row.split()[:4] == [ID, "laravel", "message_received", "webjs_1"]
    assert "due in 1m" in row or "due in 5" in row
    assert row.rstrip().endswith("1 failed: answered 500")


def on_a_terminal(columns: int, *arguments: object) -> str:
    ours, theirs = pty.openpty()
    try:
        done = subprocess.Popen(
            command(*arguments), cwd=ROOT, env={**environment(columns=columns), "TERM": "dumb"}, stdout=theirs
        )
        os.close(theirs)
        out = b""
        try:
            while piece := os.read(ours, 4096):
                out += piece
        except OSError:
            pass  # the other end is closed
        assert done.wait(30) == 0
        return out.decode().replace("\r\n", "\n")
    finally:
        os.close(ours)


async def test_it_can_be_read_at_80_columns(store: Store, policies: Path) -> None:
    queue = queue_of(store, policies)
    await wait(queue, ID, "webjs_1_1735689600_0a1b2c")
    await wait(queue, "evt_2", "webjs_2")
    queue.look_everywhere()
    for one in (await queue.poll([], 10)).leased:
        long = "answered 422: " + "the session is not known here, " * 6
        await queue.poll([Settlement(one, "dead", long.strip())], 0)
    await wait(queue, "evt_0192f3a4b5c6d7e8f90a1b2c3d4f", "webjs_1_1735689600_0a1b2c")
    for what in ("dead", "queue"):
        lines = on_a_terminal(80, what, "list", "--policies", policies).splitlines()
        assert max(map(len, lines)) <= 80
        assert any(line.startswith("evt_0192f3a4b5c6d7e8f90a1b2c3d4") for line in lines)
        assert any(line.startswith("  laravel · message_received · webjs_1_1735689600_0a1b2c · 20") for line in lines)


async def test_one_is_shown_with_its_body(store: Store, policies: Path) -> None:
    await wait(queue_of(store, policies), "evt_1")
    ran = sluice("queue", "show", "evt_1", "--policies", policies)
    shown = orjson.loads(ran.out)
    assert (shown["id"], shown["state"], shown["body"], shown["headers"]) == (
        "evt_1",
        "waiting",
        '{"a":1}',
        [["X-A", "1"]],
    )


async def test_a_skipped_event_is_a_dead_letter_and_its_session_goes_on(store: Store, policies: Path) -> None:
    queue = queue_of(store, policies)
    for number in range(2):
        await wait(queue, f"evt_{number}")
    queue.look_everywhere()
    (leased,) = (await queue.poll([], 10)).leased
    await queue.poll([Settlement(leased, "retry", 3_600_000, "500 7 answered 500")], 0)
    ran = sluice("queue", "skip", "evt_0", "--policies", policies)
    assert (ran.code, ran.out, ran.err) == (0, "skipped: 1\n", "")
    (letter,) = [letter async for letter in DeadLetters(store, "laravel").all()]
    assert (letter.event.id, letter.reason) == ("evt_0", "skipped by a person")
    queue.look_everywhere()
    (following,) = (await queue.poll([], 10)).leased
    assert following.id == "evt_1"


async def test_a_dropped_event_is_gone_with_its_body_and_told_in_its_history(store: Store, policies: Path) -> None:
    queue = queue_of(store, policies)
    for number in range(3):
        await wait(queue, f"evt_{number}")
    ran = sluice("queue", "drop", "--session", "s1", "--dry-run", "--policies", policies)
    assert (ran.code, ran.out) == (0, "       3  laravel  message_received\nwould be dropped: 3\n")
    ran = sluice("queue", "drop", "--session", "s1", "--policies", policies)
    assert (ran.code, ran.err) == (1, "sluice: nothing was dropped; say yes, or give --yes\n")
    ran = sluice("queue", "drop", "--session", "s1", "--yes", "--policies", policies)
    assert (ran.code, ran.out, ran.err) == (0, "dropped: 3\n", "")
    counts = await queue.counts()
    assert (counts.waiting, counts.dead, counts.dropped, counts.bytes) == (0, 0, 3, 0)
    history = await history_of(store, ["laravel"], "evt_0")
    assert history is not None
    assert (history.event, history.endpoints[0].state) == (None, "dropped")
    audit = (load(policies).data / "logs" / "audit.jsonl").read_text().splitlines()
    assert [orjson.loads(line)["action"] for line in audit] == ["drop_waiting"]


async def test_what_is_being_delivered_is_left_alone_and_said(store: Store, policies: Path) -> None:
    queue = Queue(store, "laravel", lease=60.0, max_bytes=10**6, max_events=100)
    for number in range(2):
        await wait(queue, f"evt_{number}")
    queue.look_everywhere()
    (leased,) = (await queue.poll([], 10)).leased
    ran = sluice("queue", "skip", "--all", "--policies", policies)
    assert (ran.code, ran.out) == (
        1,
        "skipped: 1\nleft: 1; they are being delivered right now, so run it again in a moment, or hold the circuit "
        "open before: sluice circuit hold ENDPOINT open\n",
    )
    assert (await queue.poll([Settlement(leased, "delivered", 0, "200 1")], 0)).refused == []


async def test_many_are_taken_in_as_many_calls_as_it_takes(store: Store, policies: Path) -> None:
    queue = Queue(store, "laravel", lease=5.0, max_bytes=10**8, max_events=10**5)
    for number in range(2300):
        await wait(queue, f"evt_{number}", f"s{number % 50}", "typing" if number % 2 else "message")
    ran = sluice("queue", "drop", "--event", "typing", "--yes", "--policies", policies)
    assert (ran.code, ran.out) == (0, "dropped: 1,150\n")
    assert (await queue.counts()).waiting == 1150


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("list", "--endpoint", "larvel"), 'there is no endpoint "larvel"; there are audit, laravel'),
        (
            ("list", "--after", "nonsense"),
            'after is "nonsense", which is not the next of a page; leave it out to begin anew',
        ),
        (("list", "--limit", "0"), "limit: 0 is not a whole number from 1 to 1000"),
        (("show", "evt_9"), 'no event "evt_9" waits; `sluice event ID` says what became of one'),
        (("skip", "evt_9"), 'no event "evt_9" waits; `sluice event ID` says what became of one'),
        (
            ("skip",),
            "say which waiting events are meant: by ids, by endpoint, session, event, since, until, or by all",
        ),
        (
            ("drop", "evt_1", "--all", "--yes"),
            "ids and all exclude each other: name the events, or mean all of them",
        ),
    ],
)
def test_mistakes(policies: Path, arguments: tuple[str, ...], message: str) -> None:
    ran = sluice("queue", *arguments, "--policies", policies)
    assert (ran.code, ran.out, ran.err) == (2, "", f"sluice: {message}\n")


async def test_an_event_that_waits_for_two_has_to_be_named_with_one(store: Store, policies: Path) -> None:
    from relay.queue.inbox import Inbox

    both = [queue_of(store, policies, name).destination for name in ("laravel", "audit")]
    await Inbox(store).accept(Event("evt_1", "x", "s1", b"/", (), b"{}", lane="normal"), both)
    ran = sluice("queue", "show", "evt_1", "--policies", policies)
    assert (ran.code, ran.err) == (2, 'sluice: "evt_1" waits for audit, laravel; name one endpoint\n')
    assert sluice("queue", "show", "evt_1", "--endpoint", "audit", "--policies", policies).code == 0
