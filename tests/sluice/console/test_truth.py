"""Bad states made real: what `status` says of them, word for word."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest

from gateway.policies import Policies
from gateway.resources import Resources
from relay import presence, progress
from sessions import divided
from sessions.existing import ExistingWorkers
from sessions.policies import ExistingWorker
from sessions.registry import Owner
from sluice.config import Secret
from sluice.console.actions.status import show
from sluice.console.status import ShowStatus
from tests.relay import making
from tests.sessions.test_existing import Node
from tests.waiting import until

pytestmark = pytest.mark.anyio


async def messages(parts: Resources) -> list[str]:
    return list((await show(parts, ShowStatus())).messages)


@pytest.fixture
async def nodes() -> AsyncIterator[tuple[Node, Node]]:
    first, second = Node(), Node()
    for node in (first, second):
        await node.start()
    yield first, second
    for node in (first, second):
        await node.end()


async def watching(parts: Resources, *workers: ExistingWorker) -> Resources:
    await presence.report(parts.store, "relay-1")
    existing = ExistingWorkers(parts.registry, workers, capacity=5)
    for _ in range(2):
        await existing.run_once()
    await existing.close()
    sessions = replace(parts.policies.sessions, workers=workers, advertise="http://sluice:8080")
    policies = replace(parts.policies, sessions=sessions)
    return replace(parts, policies=policies, watched=lambda: existing.seen)


async def test_a_worker_that_refuses_our_key(parts: Resources, nodes: tuple[Node, Node]) -> None:
    node, _ = nodes
    node.key = "right"
    parts = await watching(parts, ExistingWorker(node.url, Secret(b"wrong")))
    assert await messages(parts) == [
        f"worker {node.name} of sessions.workers has never answered for 0s (GET /api/sessions answered 401): its key "
        f"in sessions.workers is wrong; where it has none, take key out, as it refuses who sends one"
    ]


async def test_a_worker_that_is_not_there(parts: Resources, nodes: tuple[Node, Node]) -> None:
    node, _ = nodes
    await node.end()
    (sentence,) = await messages(await watching(parts, ExistingWorker(node.url, None)))
    assert sentence.startswith(f"worker {node.name} of sessions.workers has never answered for 0s (")
    assert sentence.endswith(
        f"): start it, or take it out of sessions.workers; curl -i {node.url} shows whether it answers"
    )


async def test_two_workers_that_claim_one_session(parts: Resources, nodes: tuple[Node, Node]) -> None:
    first, second = nodes
    first.lists("s1", "s2")
    await watching(parts, ExistingWorker(first.url, None))
    second.lists("s1")
    parts = await watching(parts, ExistingWorker(second.url, None))
    assert await messages(parts) == [
        f"session s1 runs at {first.name} and at {second.name}, where its requests do not go: close it there: "
        f"curl -X DELETE {second.url}/api/sessions/s1"
    ]


async def test_the_one_of_two_that_is_connected_gets_the_requests(parts: Resources, nodes: tuple[Node, Node]) -> None:
    first, second = nodes
    first.answer = {"sessions": [{"session_id": "s1", "status": "qr_scanning"}]}
    both = _named(nodes)
    await watching(parts, both[0])
    second.lists("s1")
    parts = await watching(parts, *both)
    for worker in both:
        await divided.note(parts.store, worker.name, time.time())
    owner = await parts.registry.owner_of("s1")
    assert isinstance(owner, Owner)
    assert owner.worker == "w2"
    assert await messages(parts) == [
        f"session s1 runs at w2 and at w1, where its requests do not go: close it there: "
        f"curl -X DELETE {first.url}/api/sessions/s1"
    ]


async def test_a_worker_behind_which_several_processes_take_turns(parts: Resources, nodes: tuple[Node, Node]) -> None:
    node, _ = nodes
    node.begins = [time.monotonic() - 100.0, time.monotonic() - 90.0, time.monotonic() - 80.0]
    parts = await watching(parts, ExistingWorker(node.url))
    assert await messages(parts) == [
        f"several processes answer at {node.url} of worker {node.name} in turn, so nobody can tell which of them runs "
        "a session: give each a port and a LARAVEL_URL of its own (examples/pm2)"
    ]


async def test_laravel_is_led_past_us(parts: Resources, nodes: tuple[Node, Node]) -> None:
    node, _ = nodes
    parts = await watching(parts, ExistingWorker(node.url, name="w1"))
    sessions = replace(parts.policies.sessions, advertise=None)
    parts = replace(parts, policies=replace(parts.policies, sessions=sessions))
    parts.instances.note("w1", b"http://localhost:3001")
    assert await messages(parts) == [
        "Laravel is given the workers' own addresses, such as http://localhost:3001, and calls them past Sluice from "
        "then on: write sessions.advertise with this gateway's address, as Laravel reaches it"
    ]


async def test_workers_that_answer_leave_all_well(parts: Resources, nodes: tuple[Node, Node]) -> None:
    first, second = nodes
    first.lists("s1")
    second.lists("s2")
    workers = _named(nodes)
    parts = await watching(parts, *workers)
    for worker in workers:
        await divided.note(parts.store, worker.name, time.time())
    assert await messages(parts) == []


async def test_a_worker_that_was_started_and_did_not_ask_here(parts: Resources, nodes: tuple[Node, Node]) -> None:
    """It runs for a quarter of an hour; the other one was told of its sessions after its start."""
    parts = await watching(parts, *_named(nodes))
    await divided.note(parts.store, "w2", time.time())
    (sentence,) = await messages(parts)
    assert sentence.startswith("worker w1 was started 16m")
    await divided.note(parts.store, "w1", time.time())
    assert await messages(parts) == []


def _named(nodes: Sequence[Node]) -> list[ExistingWorker]:
    return [ExistingWorker(node.url, name=f"w{at}", prefix=f"/w/w{at}") for at, node in enumerate(nodes, start=1)]


async def test_a_relay_that_is_alive_and_takes_nothing(parts: Resources, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LEASE_TIMEOUT", 0.5)
    parts = replace(parts, policies=_without_pace(parts))
    await presence.report(parts.store, "relay-1")
    await making.accept(parts.queues["laravel"], making.event("s1"))
    assert await messages(parts) == []

    async def said() -> bool:
        return await messages(parts) == [
            "laravel: no relay has taken what is due for 1s, though the circuit is closed: restart the relay, and see "
            "its log"
        ]

    await until(said)


def _without_pace(parts: Resources) -> Policies:
    relay = parts.policies.relay
    endpoints = {name: replace(endpoint, rate=None) for name, endpoint in relay.endpoints.items()}
    return replace(parts.policies, relay=replace(relay, endpoints=endpoints))
