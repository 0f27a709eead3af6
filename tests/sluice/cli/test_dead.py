"""The commands on dead letters, on a real store; the whole way of a dead letter is in tests/e2e/test_dead.py."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from gateway.policies import load
from relay.process import open_queue
from relay.queue.codec import Event, Superseding
from relay.queue.queue import Queue, Settlement
from sluice.store.client import Store
from tests.relay.making import accept
from tests.sluice.cli.command import command, environment, sluice
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

KIND = "       1  laravel  message_received  answered 422: no\n"


@pytest.fixture
def policies(tmp_path: Path, store_url: str) -> Path:
    file = tmp_path / "policies.yaml"
    file.write_text(
        f'version: 1\nstore: {{url: "{store_url}"}}\n'
        "relay: {endpoints: {laravel: {url: http://127.0.0.1:1}, audit: {url: http://127.0.0.1:2}}}\n"
    )
    return file


async def bury(
    store: Store, policies: Path, identity: str, *, session: str = "s1", type_: str = "message_received", **more: str
) -> Queue:
    """Makes a dead letter as the relay does."""
    known = load(policies)
    queue = open_queue(store, known.relay.endpoints[more.get("endpoint", "laravel")], known)
    body = more.get("body", '{"a":1}').encode()
    await accept(queue, Event(identity, type_, session, b"/hook", ((b"X-A", b"1"),), body, lane="normal"))
    queue.look_everywhere()
    (leased,) = (await queue.poll([], 10)).leased
    await queue.poll([Settlement(leased, "dead", more.get("reason", "answered 422: no"))], 0)
    return queue


def listed(policies: Path, *filters: str) -> list[str]:
    ran = sluice("dead", "list", "--json", *filters, "--policies", policies)
    assert (ran.code, ran.err) == (0, "")
    return [one["id"] for one in orjson.loads(ran.out)["letters"]]


def test_none(policies: Path) -> None:
    ran = sluice("dead", "list", "--policies", policies)
    assert (ran.code, ran.out, ran.err) == (0, "no dead letters\n", "")
    ran = sluice("dead", "show", "evt_1", "--policies", policies)
    assert (ran.code, ran.err) == (2, 'sluice: there is no dead letter "evt_1"; `sluice dead list` shows them\n')


async def test_they_are_listed_oldest_first_and_filtered(store: Store, policies: Path) -> None:
    await bury(store, policies, "evt_1")
    await bury(store, policies, "evt_2", session="s2", type_="session_connected")
    await bury(store, policies, "evt_3", session="s2", endpoint="audit")
    assert listed(policies) == ["evt_1", "evt_2", "evt_3"]
    assert listed(policies, "--endpoint", "laravel") == ["evt_1", "evt_2"]
    assert listed(policies, "--event", "session_*") == ["evt_2"]
    assert listed(policies, "--event", "message_received", "--session", "s2") == ["evt_3"]


async def test_into_a_pipe_nothing_is_cut_and_names_are_never_taken_for_markup(store: Store, policies: Path) -> None:
    identity, session = "evt_0192f3a4b5c6d7e8f90a1b2c3d4e", "webjs_1_1735689600_[red]0a1b2c[/red]:100:"
    await bury(store, policies, identity, session=session, reason='answered 422: {"why":"[bold]no[/bold] :100: ' + "x")
    ran = sluice("dead", "list", "--policies", policies, columns=60)
    heading, row, told = ran.out.splitlines()
    assert heading.split() == ["id", "endpoint", "event", "session", "died", "reason"]
    cells = row.split(maxsplit=5)
    assert (cells[0], cells[3]) == (identity, session)
    assert cells[5].strip() == 'answered 422: {"why":"[bold]no[/bold] :100: x'
    assert told == "1 dead letters; send them again with `sluice dead replay ID` or `--all`"


async def test_an_id_that_is_not_dead_stops_everything(store: Store, policies: Path) -> None:
    queue = await bury(store, policies, "evt_1")
    for act in (("replay",), ("drop", "--yes")):
        ran = sluice("dead", *act, "evt_1", "evt_9", "evt_8", "--policies", policies)
        assert (ran.code, ran.out, ran.err) == (
            2,
            "",
            'sluice: there is no dead letter "evt_8", "evt_9"; `sluice dead list` shows them\n',
        )
    assert (await queue.counts()).dead == 1


async def test_all_are_replayed_at_every_endpoint(store: Store, policies: Path) -> None:
    laravel = await bury(store, policies, "evt_1")
    audit = await bury(store, policies, "evt_2", endpoint="audit")
    ran = sluice("dead", "replay", "--all", "--policies", policies)
    assert (ran.code, ran.out, ran.err) == (0, "replayed: 2\n", "")
    for queue in (laravel, audit):
        counts = await queue.counts()
        assert (counts.waiting, counts.dead) == (1, 0)


async def test_without_a_terminal_and_without_yes_nothing_is_dropped(store: Store, policies: Path) -> None:
    queue = await bury(store, policies, "evt_1")
    ran = sluice("dead", "drop", "--all", "--policies", policies)
    assert (ran.code, ran.out) == (1, f"{KIND}would be dropped: 1\n")
    assert ran.err == "sluice: nothing was dropped; say yes, or give --yes\n"
    ran = sluice("dead", "drop", "--all", "--json", "--policies", policies)
    assert (ran.code, ran.out, ran.err) == (1, "", "sluice: nothing was dropped; say yes, or give --yes\n")
    assert (await queue.counts()).dead == 1


@pytest.mark.parametrize(("answer", "left"), [("n", 1), ("", 1), ("Yes", 0)])
async def test_a_person_at_a_terminal_is_asked(store: Store, policies: Path, answer: str, left: int) -> None:
    queue = await bury(store, policies, "evt_1")
    ours, theirs = pty.openpty()
    try:
        os.write(ours, f"{answer}\n".encode())
        done = subprocess.run(
            command("dead", "drop", "evt_1", "--policies", policies),
            env=environment(),
            stdin=theirs,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.stdout.startswith(f"{KIND}would be dropped: 1\nerase them for good? [y/N] ")
    assert (done.returncode, (await queue.counts()).dead) == (left, left)


async def test_they_are_found_by_time_reason_and_text(store: Store, policies: Path) -> None:
    await bury(store, policies, "evt_1", reason="answered 422: The Session is unknown", body='{"to":"49170"}')
    await bury(store, policies, "evt_2", reason="answered 400: no", body='{"to":"49171"}')
    assert listed(policies, "--reason", "the session") == ["evt_1"]
    assert listed(policies, "--text", "49171") == ["evt_2"]
    assert listed(policies, "--text", "/HOOK") == ["evt_1", "evt_2"]
    assert listed(policies, "--since", "1h") == ["evt_1", "evt_2"]
    assert listed(policies, "--until", "1h") == []
    assert listed(policies, "--since", "2031-01-31T12:00:00Z") == []
    assert listed(policies, "--until", "2031-01-31", "--reason", "400") == ["evt_2"]


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (
            ("--since", "yesterday"),
            'argument --since: "yesterday" is neither a moment nor so long ago; write 2026-01-31T12:00:00Z or 2h',
        ),
        (("--rate", "fast"), 'argument --rate: "fast" is not a rate; write 1000/minute or 5/10 seconds'),
    ],
)
def test_what_cannot_be_read_is_said_with_its_cure(policies: Path, option: tuple[str, str], said: str) -> None:
    ran = sluice("dead", "replay", "--all", *option, "--policies", policies)
    assert ran.code == 2
    assert ran.err.splitlines()[-1] == f"sluice dead replay: error: {said}"


async def test_a_replay_is_no_faster_than_its_rate(store: Store, policies: Path) -> None:
    for number in range(3):
        await bury(store, policies, f"evt_{number}", session=f"s{number}")
    began = time.monotonic()
    ran = sluice("dead", "replay", "--all", "--rate", "2/second", "--policies", policies)
    assert (ran.code, ran.out) == (0, "replayed: 3\n")
    assert time.monotonic() - began > 1.0


async def test_a_replay_that_is_killed_goes_on_where_it_was_in_order_and_leaves_what_died_since(
    store: Store, policies: Path
) -> None:
    known = load(policies)
    queue = open_queue(store, known.relay.endpoints["laravel"], known)
    for number in range(120):
        await bury(store, policies, f"evt_{number:03d}", session=f"s{number % 3}")
    replaying = subprocess.Popen(
        command("dead", "replay", "--all", "--rate", "20/second", "--policies", policies),
        env=environment(),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )

    async def some_are_back() -> bool:
        return (await queue.counts()).waiting >= 20

    try:
        await until(some_are_back)
    finally:
        replaying.send_signal(signal.SIGKILL)
        _, told = replaying.communicate()
    moment = told.split("--until ")[1].strip()
    assert told == f"120 to do; should this be cut short, run it again with --until {moment}\n"
    counts = await queue.counts()
    assert 0 < counts.waiting < 120
    assert counts.waiting + counts.dead == 120

    queue.look_everywhere()
    (first, *_) = (await queue.poll([], 1)).leased
    await queue.poll([Settlement(first, "dead", "answered 422: again")], 0)
    ran = sluice("dead", "replay", "--all", "--until", moment, "--policies", policies)
    assert (ran.code, ran.out) == (0, f"replayed: {counts.dead}\n")
    assert listed(policies) == [first.id]
    for session in range(3):
        mine = [number for number in range(120) if number % 3 == session and f"evt_{number:03d}" != first.id]
        assert await sent(queue, f"s{session}") == [f"evt_{number:03d}" for number in mine]


async def sent(queue: Queue, session: str) -> list[str]:
    """What comes out of a session's stream, one after the other."""
    came: list[str] = []
    settled: list[Settlement] = []
    while True:
        queue.look_everywhere()
        leased = (await queue.poll(settled, 10)).leased
        settled = [Settlement(one, "delivered" if one.session == session else "p") for one in leased]
        mine = [one.id for one in leased if one.session == session]
        if not mine:
            await queue.poll(settled, 0)
            return came
        came += mine


async def test_a_replay_says_how_many_a_newer_event_has_superseded(store: Store, policies: Path) -> None:
    queue = await bury(store, policies, "evt_1")
    old = Event("evt_old", "session_ready", "s2", b"/", (), b"", "urgent", superseding=Superseding("a phone"))
    await accept(queue, old)
    queue.look_everywhere()
    (leased,) = (await queue.poll([], 10)).leased
    await queue.poll([Settlement(leased, "dead", "answered 422")], 0)
    time.sleep(0.002)
    await accept(queue, replace(old, id="evt_new", session="s3"))
    planned = sluice("dead", "replay", "--all", "--dry-run", "--policies", policies)
    more = "; 1 of them superseded by a newer event, and sent to nobody"
    assert planned.out.splitlines()[-1] == f"would be replayed: 2{more}"
    assert sluice("dead", "replay", "--all", "--policies", policies).out == f"replayed: 2{more}\n"
