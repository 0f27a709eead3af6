from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from gateway.policies import load
from relay.process import open_queue
from relay.queue.queue import Queue, Settlement
from sluice.store.client import Store
from tests.relay.making import accept, event
from tests.sluice.cli.command import sluice

pytestmark = pytest.mark.anyio


@pytest.fixture
def policies(tmp_path: Path, store_url: str) -> Path:
    file = tmp_path / "policies.yaml"
    file.write_text(
        f'version: 1\nstore: {{url: "{store_url}"}}\n'
        "relay: {endpoints: {laravel: {url: http://127.0.0.1:1}}, retention: {delivered: 1d}}\n"
    )
    return file


def test_an_event_that_nobody_knows(policies: Path) -> None:
    ran = sluice("event", "evt_1", "--policies", policies)
    assert (ran.code, ran.out, ran.err) == (
        2,
        "",
        'sluice: nothing is known of an event "evt_1": it was not accepted, or it left longer ago than '
        "relay.retention.delivered keeps\n",
    )


async def test_one_that_failed_and_one_behind_it(store: Store, policies: Path) -> None:
    known = load(policies)
    queue = open_queue(store, known.relay.endpoints["laravel"], known)
    for identity in ("evt_1", "evt_2"):
        await accept(queue, event(id=identity))
    queue.look_everywhere()
    (leased,) = (await queue.poll([], 10)).leased
    await queue.poll([Settlement(leased, "retry", 60_000, "500 12 answered 500")], 0)
    ran = sluice("event", "evt_1", "--policies", policies)
    lines = ran.out.splitlines()
    assert (ran.code, ran.err) == (0, "")
    assert lines[0] == "evt_1: message_received of session s1, normal, 2 bytes"
    assert lines[1].endswith("Z  accepted")
    assert lines[3].startswith("laravel: waits ")
    assert lines[3].endswith("s for attempt 2 of 12, which does not count while nobody gets through: answered 500")
    assert lines[4].endswith("Z  500 after 12ms: answered 500")
    ran = sluice("event", "evt_2", "--json", "--policies", policies)
    told = orjson.loads(ran.out)
    part = told["endpoints"]["laravel"]
    assert (told["id"], part["state"], part["older"], part["waits_for"]) == ("evt_2", "waiting", 1, "evt_1")
    assert part["why"].startswith("waits behind 1 older of its session, first evt_1, which goes on in ")


async def test_events_are_found_by_session_and_type_wherever_they_are(store: Store, policies: Path) -> None:
    known = load(policies)
    queue = open_queue(store, known.relay.endpoints["laravel"], known)
    ways = {"delivered": ("delivered", 0), "dead": ("dead", "answered 422"), "waiting": ("retry", 600_000)}
    for state in ways:
        await accept(queue, event(state, id=f"evt_{state}", type="message_received"))
        await accept(queue, event("other", id=f"evt_other_{state}", type="session_connected"))
    queue.look_everywhere()
    leased = [one for one in (await queue.poll([], 100)).leased if one.session != "other"]
    summary = "200 1 message_received"  # as relay/deliver/retry.py makes it
    ended = [Settlement(one, *ways[one.session or ""], summary) for one in leased]  # type: ignore[arg-type]
    await queue.poll(ended, 0)

    def found(*criteria: str) -> list[tuple[str, str, str | None]]:
        ran = sluice("event", "find", *criteria, "--json", "--policies", policies)
        assert (ran.code, ran.err) == (0, "")
        told = orjson.loads(ran.out)
        assert told["complete"]
        return sorted((one["id"], one["state"], one["event"]) for one in told["events"])

    assert found("--type", "message_*") == [(f"evt_{state}", state, "message_received") for state in sorted(ways)]
    assert found("--session", "dead") == [("evt_dead", "dead", "message_received")]
    assert found("--session", "delivered", "--since", "1h") == [("evt_delivered", "delivered", "message_received")]
    assert found("--session", "other", "--type", "message_*") == []
    ran = sluice("event", "find", "--session", "none", "--policies", policies)
    assert (ran.code, ran.out, ran.err) == (0, "no such event is known\n", "")
    ran = sluice("event", "evt_delivered", "--policies", policies)
    assert ran.out.splitlines()[0] == "evt_delivered: message_received of session delivered, normal"
    assert "after 1ms" in ran.out
    assert "after 1ms:" not in ran.out


async def test_one_of_an_endpoint_that_is_gone_is_shown_with_the_cure(store: Store, policies: Path) -> None:
    await accept(Queue(store, "gone", lease=5.0, max_bytes=10**6, max_events=100), event(id="evt_1"))
    ran = sluice("event", "evt_1", "--policies", policies)
    assert (ran.code, ran.err) == (0, "")
    assert "gone: gone is not an endpoint of the policies: sluice queue move gone NEW" in ran.out.splitlines()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("find",), "say which events are meant: by session, by event, or by both"),
        (("find", "--session", "s", "--endpoint", "x"), 'there is no endpoint "x"; there are laravel'),
        (("evt_1", "--session", "s"), "--session goes with find: sluice event find --session …"),
    ],
)
def test_mistakes(policies: Path, arguments: tuple[str, ...], message: str) -> None:
    ran = sluice("event", *arguments, "--policies", policies)
    assert (ran.code, ran.out, ran.err) == (2, "", f"sluice: {message}\n")
