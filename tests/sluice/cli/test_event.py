from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from gateway.policies import load
from relay.process import open_queue
from relay.queue.queue import Settlement
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
