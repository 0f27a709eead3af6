"""`sluice queue move` on a real store, and each mistake with its message."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from gateway.policies import load
from relay.process import open_queue
from relay.queue.queue import Queue
from sluice.store.client import Store
from tests.relay.making import accept, event
from tests.sluice.cli.command import sluice

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture
def policies(tmp_path: Path, store_url: str) -> Path:
    file = tmp_path / "policies.yaml"
    endpoints = "{laravel: {url: http://127.0.0.1:1}, audit: {url: http://127.0.0.1:2}}"
    file.write_text(f'version: 1\nstore: {{url: "{store_url}"}}\nrelay: {{endpoints: {endpoints}}}\n')
    return file


async def left_behind(store: Store, events: int, name: str = "crm") -> Queue:
    queue = Queue(store, name, lease=60.0, max_bytes=10**8, max_events=10**5)
    for _ in range(events):
        await accept(queue, event())
    return queue


async def test_without_yes_it_only_says_what_it_would_do(store: Store, policies: Path) -> None:
    queue = await left_behind(store, 3)
    ran = sluice("queue", "move", "crm", "laravel", "--policies", policies)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == (
        "crm: 3 wait, 0 are dead letters\n"
        "they would go to laravel, each before younger events of its session; do it with --yes\n"
    )
    assert (await queue.counts()).waiting == 3


async def test_with_yes_everything_is_at_the_other_endpoint(store: Store, policies: Path) -> None:
    queue = await left_behind(store, 2300)
    ran = sluice("queue", "move", "crm", "laravel", "--yes", "--policies", policies)
    assert (ran.code, ran.out, ran.err) == (0, "moved: 2,300\n", "")
    known = load(policies)
    assert (await open_queue(store, known.relay.endpoints["laravel"], known).counts()).waiting == 2300
    assert (await queue.counts()).waiting == 0
    audit = (known.data / "logs" / "audit.jsonl").read_text().splitlines()
    assert {orjson.loads(line)["action"] for line in audit} == {"move_queue"}


async def test_programs_are_told_in_json(store: Store, policies: Path) -> None:
    await left_behind(store, 2)
    plan = orjson.loads(sluice("queue", "move", "crm", "laravel", "--json", "--policies", policies).out)
    assert plan == {"waiting": 2, "dead": 0, "moved": 0, "merged": 0, "left": 2, "leased": 0}
    done = orjson.loads(sluice("queue", "move", "crm", "laravel", "--json", "--yes", "--policies", policies).out)
    assert done == {"waiting": 2, "dead": 0, "moved": 2, "merged": 0, "left": 0, "leased": 0}


async def test_what_is_being_delivered_is_said(store: Store, policies: Path) -> None:
    queue = await left_behind(store, 1)
    queue.look_everywhere()
    await queue.poll([], 100)
    ran = sluice("queue", "move", "crm", "laravel", "--yes", "--policies", policies)
    assert (ran.code, ran.out) == (
        1,
        "moved: 0\nleft: 1; they are being delivered right now, run it again in a moment\n",
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("crm", "larvel", 'there is no endpoint "larvel"; there are laravel, audit'),
        (
            "audit",
            "laravel",
            "audit is an endpoint of the policies, so relays deliver to it: remove or rename it there first",
        ),
        ("cmr", "laravel", 'nothing lies in the store for "cmr"; endpoints with something: crm'),
    ],
)
async def test_what_cannot_be_moved(store: Store, policies: Path, old: str, new: str, message: str) -> None:
    await left_behind(store, 1)
    ran = sluice("queue", "move", old, new, "--policies", policies)
    message = (
        message or "laravel is an endpoint of the policies, so relays deliver to it: remove or rename it there first"
    )
    assert (ran.code, ran.out, ran.err) == (2, "", f"sluice: {message}\n")
