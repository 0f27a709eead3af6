"""Delivered events sent once more from the command line, on a real store, by a real relay to a real receiver."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from gateway.policies import edits, load
from relay import process as relay_process
from relay.process import open_circuit, open_queue
from relay.queue.codec import Superseding
from relay.queue.inbox import Inbox
from relay.queue.kept import Kept
from relay.queue.queue import Queue, Settlement
from sluice.process.loops import Stop
from sluice.store.client import Store
from tests.relay.making import event
from tests.relay.receiver import Receiver, receiver
from tests.sluice.cli.command import Ran, sluice
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@dataclass
class Place:
    store: Store
    file: Path
    laravel: Receiver

    async def run(self, *arguments: object) -> Ran:
        """While the relay goes on."""
        return await asyncio.to_thread(sluice, *arguments, "--policies", self.file)

    async def resend(self, *arguments: object) -> Ran:
        return await self.run("event", "resend", *arguments)

    async def accept(self, identity: str, session: str = "s1", **more: object) -> None:
        known = load(self.file)
        names = more.pop("to", ("laravel",))
        queues = [open_queue(self.store, known.relay.endpoints[name], known) for name in names]  # type: ignore[attr-defined]
        one = event(session, identity.encode(), id=identity, **more)
        await Inbox(self.store).accept(one, [queue.destination for queue in queues])

    async def delivered(self, number: int) -> list[tuple[str, str]]:
        """What the receiver was told as ids, and the bodies, when it has so many and all are settled."""

        async def is_there() -> bool:
            known = load(self.file)
            counts = await open_queue(self.store, known.relay.endpoints["laravel"], known).counts()
            return len(self.laravel.got) >= number and counts.waiting == counts.leased == 0

        await until(is_there)
        return [(got.all("webhook-id")[0].decode(), got.body.decode()) for got in self.laravel.got]


def write(file: Path, store_url: str, url: str, relay: str = "retention: {bodies: 1h}", laravel: str = "") -> None:
    more = f", {laravel}" if laravel else ""
    file.write_text(
        f'version: 1\nstore: {{url: "{store_url}"}}\ndata: {file.parent / "data"}\n'
        f"relay: {{endpoints: {{laravel: {{url: {url}{more}}}, audit: {{url: http://127.0.0.1:1}}}}, {relay}}}\n"
    )


@pytest.fixture
async def place(store: Store, store_url: str, tmp_path: Path) -> AsyncIterator[Place]:
    file = tmp_path / "policies.yaml"
    async with receiver() as laravel:
        write(file, store_url, laravel.url)
        async with relaying(file, store_url):
            yield Place(store, file, laravel)


@contextlib.asynccontextmanager
async def relaying(file: Path, store_url: str) -> AsyncIterator[None]:
    stop = Stop()
    running = asyncio.create_task(relay_process.run(edits.live(load(file)), store_url, stop))
    try:
        yield
    finally:
        stop.request()
        await running


async def test_one_is_planned_first_then_sent_once_more_under_its_id_and_followed(place: Place) -> None:
    await place.accept("evt_1")
    await place.delivered(1)
    shown = (await place.run("event", "evt_1")).out.splitlines()[-1]
    assert shown.endswith("Z  is how long its body is kept: sluice event resend evt_1 --endpoint laravel")
    kept_until = datetime.fromisoformat(shown.split()[0])
    assert 3500 < (kept_until - datetime.now(UTC)).total_seconds() < 3600
    planned = await place.resend("evt_1")
    assert (planned.code, planned.err) == (0, "")
    assert planned.out == ("       1  laravel  message_received\nwould be sent once more: 1; do it with --yes\n")
    assert len(place.laravel.got) == 1
    done = await place.resend("evt_1", "--yes")
    first, followed = done.out.splitlines()
    assert (done.code, done.err, first) == (0, "", "sent once more: 1")
    assert await place.delivered(2) == [("evt_1", "evt_1"), ("evt_1", "evt_1")]
    assert followed.startswith("what comes of it: sluice event evt_1~")
    identity = followed.rpartition(" ")[2]
    told = await place.run("event", identity)
    assert told.out.startswith(f"{identity}: message_received of session s1, normal\n")
    assert "laravel: delivered " in told.out
    assert "is how long" not in told.out
    refused = await place.resend(identity)
    assert refused.err == f'sluice: "{identity}" was itself sent once more, and is not kept; name "evt_1"\n'


async def test_they_are_found_by_session_type_and_time_and_sent_in_order(place: Place) -> None:
    for number in range(6):
        await place.accept(f"evt_{number}", f"s{number % 2}", type="session_ended" if number == 4 else "message_sent")
    await place.delivered(6)

    async def planned(*criteria: str) -> int:
        ran = await place.resend("--json", *criteria)
        assert (ran.code, ran.err) == (0, "")
        return int(orjson.loads(ran.out)["meant"])

    assert await planned("--session", "s0") == 3
    assert await planned("--session", "s0", "--type", "message_*") == 2
    assert await planned("--endpoint", "laravel") == await planned("--all") == await planned("--since", "1h") == 6
    assert await planned("--until", "1h") == await planned("--endpoint", "audit") == 0
    ran = await place.resend("--session", "s0", "--yes", "--rate", "5/second")
    assert (ran.code, ran.out) == (0, "sent once more: 3\n")
    assert ran.err.startswith("3 to send; should this be cut short, run it again with --until 2")
    assert ran.err.endswith("Z, and none is sent twice\n")
    assert [body for _, body in (await place.delivered(9))[6:]] == ["evt_0", "evt_2", "evt_4"]


async def test_a_run_that_was_cut_short_goes_on_and_sends_none_twice(place: Place) -> None:
    for number in range(5):
        await place.accept(f"evt_{number}", f"s{number}")
    await place.delivered(5)
    await asyncio.sleep(0.01)
    moment = datetime.now(UTC).isoformat()
    first = await place.resend("evt_0", "evt_1", "--yes", "--until", moment)
    assert first.out == "sent once more: 2\n"
    rest = await place.resend("--all", "--yes", "--until", moment)
    assert (rest.code, rest.out) == (0, "sent once more: 3; 2 were before, with the same --until\n")
    assert len(await place.delivered(10)) == 10
    again = await place.resend("evt_0", "--yes")
    assert again.out.startswith("sent once more: 1\n")


async def test_a_rate_is_kept(place: Place) -> None:
    for number in range(8):
        await place.accept(f"evt_{number}", f"s{number}")
    await place.delivered(8)
    began = time.monotonic()
    ran = await place.resend("--all", "--yes", "--rate", "4/second")
    assert (ran.code, ran.out) == (0, "sent once more: 8\n")
    assert time.monotonic() - began >= 1.0


async def test_it_waits_behind_younger_events_of_its_session(place: Place) -> None:
    await place.accept("evt_0", ttl=0.5)
    await place.delivered(1)
    circuit = open_circuit(place.store, load(place.file).relay.endpoints["laravel"])
    await circuit.hold("open", "a test")
    await place.accept("evt_1")
    assert (await place.resend("evt_0", "--yes")).code == 0
    await asyncio.sleep(0.6)  # longer than it was worth sending the first time
    await circuit.hold("closed", "a test")
    assert [body for _, body in await place.delivered(3)] == ["evt_0", "evt_1", "evt_0"]


async def test_a_full_backlog_refuses_it_exactly_and_tells_what_is_left(
    store: Store, store_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "policies.yaml"
    write(file, store_url, "http://127.0.0.1:1", "retention: {bodies: 1h}, backlog: {events: 3}")
    known = load(file)
    queue = open_queue(store, known.relay.endpoints["laravel"], known)
    for number in range(5):
        await Inbox(store).accept(event(f"s{number}", id=f"evt_{number}"), [queue.destination])
        queue.look_everywhere()
        leased = (await queue.poll([], 10)).leased
        await queue.poll([Settlement(one, "delivered", 0, "200 1") for one in leased], 0)
    ran = await asyncio.to_thread(sluice, "event", "resend", "--all", "--yes", "--policies", file)
    moment = ran.err.partition("--until ")[2].partition(",")[0]
    assert (ran.code, ran.out) == (
        1,
        "sent once more: 3\nleft: 2; the backlog is full (relay.backlog): when it has room, run it again with "
        f"--until {moment}, and none is sent twice\n",
    )
    refused = await asyncio.to_thread(sluice, "event", "resend", "evt_4", "--yes", "--policies", file)
    said = (
        "the backlog of laravel is full (relay.backlog), so nothing more is sent to it: deliver faster, or raise it; "
    )
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.startswith(f"sluice: {said}then ask again with until 2")
    assert (await queue.counts()).waiting == 3


async def test_one_that_two_endpoints_got_needs_a_name(store: Store, store_url: str, tmp_path: Path) -> None:
    file = tmp_path / "policies.yaml"
    write(file, store_url, "http://127.0.0.1:1")
    known = load(file)
    queues = [open_queue(store, known.relay.endpoints[name], known) for name in ("laravel", "audit")]
    await Inbox(store).accept(event(id="evt_1"), [queue.destination for queue in queues])
    for queue in queues:
        queue.look_everywhere()
        (leased,) = (await queue.poll([], 10)).leased
        await queue.poll([Settlement(leased, "delivered", 0, "200 1")], 0)

    async def said(*arguments: str) -> str:
        ran = await asyncio.to_thread(sluice, "event", "resend", *arguments, "--policies", file)
        return ran.err or ran.out

    assert await said("evt_1") == 'sluice: "evt_1" was delivered to laravel and audit; name one endpoint\n'
    assert await said("--all") == "sluice: events that laravel and audit got are kept; name one endpoint\n"
    assert await said("evt_1", "--endpoint", "audit", "--yes") != ""
    assert [(await queue.counts()).waiting for queue in queues] == [0, 1]


MISTAKES: dict[str, tuple[tuple[str, ...], str]] = {
    "nothing said": (
        (),
        "say which delivered events are meant: by ids, by endpoint, session, event, since, until, or by all",
    ),
    "said twice": (("evt_1", "--all"), "ids and all exclude each other: name the events, or mean all of them"),
    "unknown": (("evt_9",), 'nothing is known of an event "evt_9", or its body is no longer kept'),
    "not kept": (("evt_old",), '"evt_old" was delivered, and its body is no longer kept; set relay.retention.bodies'),
    "dead": (("evt_dead",), '"evt_dead" was not delivered but is a dead letter: sluice dead replay ID'),
    "waits": (("evt_waits",), '"evt_waits" was not delivered: waiting (laravel); `sluice event ID` says why'),
    "none kept": (("--all",), "no bodies of delivered events are kept; set relay.retention.bodies"),
    "no such endpoint": (
        ("--all", "--endpoint", "larvel"),
        'there is no endpoint "larvel"; there are audit, gone, laravel',
    ),
    "an endpoint that is gone": (
        ("--all", "--endpoint", "gone"),
        "gone is not an endpoint of the policies, so nothing is sent; put it back to send its events once more",
    ),
    "a limit": (("--all", "--limit", "5"), "--limit goes with find: sluice event find --limit …"),
    "a rate": (
        ("--all", "--rate", "fast"),
        'argument --rate: "fast" is not a rate; write 1000/minute or 5/10 seconds',
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
async def test_a_mistake_is_named_with_its_cure(store: Store, store_url: str, tmp_path: Path, name: str) -> None:
    file = tmp_path / "policies.yaml"
    write(file, store_url, "http://127.0.0.1:1", "retention: {bodies: none}")
    known = load(file)
    queue, inbox = open_queue(store, known.relay.endpoints["laravel"], known), Inbox(store)
    ways = {"evt_old": ("delivered", 0), "evt_dead": ("dead", "answered 422"), "evt_waits": ("retry", 600_000)}
    for identity in ways:
        await inbox.accept(event(identity, id=identity), [queue.destination])
    await inbox.accept(
        event(id="evt_gone"), [Queue(store, "gone", lease=5.0, max_bytes=99999, max_events=9).destination]
    )
    queue.look_everywhere()
    leased = (await queue.poll([], 10)).leased
    await queue.poll([Settlement(one, *ways[one.id], "200 1 x") for one in leased], 0)  # type: ignore[arg-type]
    arguments, message = MISTAKES[name]
    ran = await asyncio.to_thread(sluice, "event", "resend", *arguments, "--policies", file)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.splitlines()[-1].endswith(f": {message}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("evt_1", "evt_2"), "one event at a time: sluice event ID; several go with resend: sluice event resend ID ID"),
        (("evt_1", "--yes"), "--yes goes with resend: sluice event resend --yes …"),
        (("find", "--session", "s", "--until", "1h"), "--until goes with resend: sluice event resend --until …"),
    ],
)
async def test_options_of_another_verb_are_refused(
    store: Store, store_url: str, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    file = tmp_path / "policies.yaml"
    write(file, store_url, "http://127.0.0.1:1")
    ran = await asyncio.to_thread(sluice, "event", *arguments, "--policies", file)
    assert (ran.code, ran.out, ran.err) == (2, "", f"sluice: {message}\n")


async def test_a_relay_keeps_no_more_than_it_is_told(store: Store, store_url: str, tmp_path: Path) -> None:
    file = tmp_path / "policies.yaml"
    async with receiver() as laravel:
        write(file, store_url, laravel.url, "retention: {bodies: 1h, bodies_bytes: 8KiB}")
        place = Place(store, file, laravel)
        async with relaying(file, store_url):
            for number in range(40):
                await place.accept(f"evt_{number:02d}" + "x" * 500, f"s{number}")
            await place.delivered(40)

            async def is_trimmed() -> bool:
                known = load(file)
                return (await open_queue(store, known.relay.endpoints["laravel"], known).counts()).kept_bytes <= 2**13

            await until(is_trimmed)
    assert 0 < await Kept(store, "laravel").count() < 20


async def test_what_a_newer_event_has_superseded_is_not_sent_once_more_and_said_to_be(place: Place) -> None:
    for identity, session in (("evt_old", "s1"), ("evt_new", "s2")):
        await place.accept(identity, session, superseding=Superseding("a phone"))
        await place.delivered(1 if identity == "evt_old" else 2)
    planned = await place.resend("--all", "--endpoint", "laravel")
    more = "; superseded by a newer event: 1"
    assert planned.out.splitlines()[-1] == f"would be sent once more: 1{more}; do it with --yes"
    done = await place.resend("--all", "--endpoint", "laravel", "--yes")
    assert done.out.splitlines()[0] == f"sent once more: 1{more}"
    assert [identity for identity, _ in await place.delivered(3)] == ["evt_old", "evt_new", "evt_new"]
