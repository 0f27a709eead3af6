"""A whole Sluice whose store fails over under load; what was promised with `replica` must all be there in the end.

Webhooks come in as the existing workers send them. Two workers run sessions, of which callers ask the status and have
messages sent, which the outbox keeps. What must hold: nothing accepted is lost, each message goes out once, and no
answer is wrong: the session's own worker gives it, or it says to come again.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import httpx2

from gateway.policies import load
from tests.e2e.account import Account
from tests.e2e.bad_receiver import bad_receiver, sessions
from tests.e2e.chaos import producing
from tests.e2e.deployment import SECRETS, Deployment, deployment
from tests.e2e.store_failovers import Failovers
from tests.sluice.store.store_deployments import Servers, cluster, redis, valkey, watched
from tests.store_user import CLUSTER, MASTER, REPLICA, SENTINELS, rights
from tests.waiting import until

Kind = Literal["cluster", "sentinel"]
_UNDER_LOAD = (1.0, 2.0)  # seconds between two failovers
_SESSIONS, _CALLED = 12, 6
_LONGEST = 120.0
_CALL_EVERY = 0.3
_AGAIN = {429, 502, 503, 504}
"""What says that it was not to be, or that nobody knows: who sends with a key may ask again."""


@dataclass
class Calls:
    """What callers were told."""

    owners: dict[str, str] = field(default_factory=dict)
    """Of each session the worker that created it."""
    told: dict[str, int] = field(default_factory=dict)
    """The last answer to each message, by its text."""
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


async def failover(
    folder: Path, free_port: Callable[[], int], *, kind: Kind, failovers: int, seed: int
) -> tuple[Account, Calls]:
    """Ends once everything accepted was delivered. Raises AssertionError if that takes too long."""
    chance, account, calls = random.Random(seed), Account(), Calls()
    ports = (free_port(), free_port())
    with ExitStack() as stack:
        servers = stack.enter_context(_servers(folder, free_port, kind))
        failing = Failovers(servers, chance)
        async with (
            bad_receiver(ports[1], account, random.Random(seed + 1)) as calm,
            deployment(folder, ports) as deployed,
        ):
            await _start(deployed, servers, calls)
            async with producing(deployed, sessions(_SESSIONS, ()), account), asyncio.TaskGroup() as group:
                stop = asyncio.Event()
                for session in calls.owners:
                    group.create_task(_call(deployed.gateway, session, calls, stop))
                for _ in range(failovers):
                    await asyncio.sleep(chance.uniform(*_UNDER_LOAD))
                    await failing.next(account.kills)
                    await _more_answered(account)
                stop.set()
            calm.set()
            await until(
                lambda: _ended(deployed), timeout=_LONGEST, what=lambda: f"all to be delivered: {account} {calls}"
            )
    return account, calls


def _servers(folder: Path, free_port: Callable[[], int], kind: Kind) -> AbstractContextManager[Servers]:
    options = ("--appendonly", "yes")
    if kind == "cluster":
        return cluster(folder, free_port, valkey(), *options, "--cluster-node-timeout", "2000")
    return watched(folder, free_port, redis(folder), *options)


async def _ended(deployed: Deployment) -> bool:
    """All events are delivered, and all sends given to a worker; none is a dead letter."""
    if not await deployed.drained():
        return False
    sends = (await deployed.status())["endpoints"]["outbox"]
    assert sends["dead"] == 0, sends
    return bool(sends["waiting"] == 0 and sends["leased"] == 0)


async def _more_answered(account: Account) -> None:
    before = len(account.answered)
    await until(lambda: len(account.answered) > before, timeout=_LONGEST, what="events to be accepted")


async def _start(deployed: Deployment, servers: Servers, calls: Calls) -> None:
    servers.allow(rights() + rights(MASTER if servers.sentinel else CLUSTER, REPLICA), rights(SENTINELS))
    text = deployed.file.read_text().replace("rate: 3000/minute, burst: 500", "rate: 60000/minute, burst: 10000")
    text = text.replace("store: {promise: second}", f'store: {{url: "{servers.url}", promise: replica}}')
    text = text.replace("{lease: 3s,", "{lease: 60s,")
    sends = "  - {id: sends, event: message_send, per: [session], rate: 6000/minute, burst: 100, over: queue}\n"
    deployed.file.write_text(text.replace("limits:\n", f"limits:\n{sends}"))
    deployed.policies = load(deployed.file, environment=SECRETS)
    await deployed.start_up()
    for name in ("w1", "w2"):
        await deployed.start_worker(name)

    async def both() -> bool:
        return {row["worker"] for row in (await deployed.status())["workers"]} == {"w1", "w2"}

    await until(both, timeout=_LONGEST, what="two workers to register")
    async with httpx2.AsyncClient(base_url=deployed.gateway, trust_env=False, timeout=30) as client:
        for number in range(_CALLED):
            body = {"session_id": f"called-{number}", "workspace_id": 1, "account_id": number, "api_key": "k"}
            answer = await client.post("/api/sessions", json=body)
            assert answer.status_code == 200, answer.text
            calls.owners[body["session_id"]] = answer.headers["x-demo-worker"]

        async def connected() -> bool:
            answers = [await client.get(f"/api/sessions/{session}/status") for session in calls.owners]
            return all(answer.json().get("status") == "connected" for answer in answers)

        await until(connected, timeout=_LONGEST, what="the sessions to be connected")


async def _call(gateway: str, session: str, calls: Calls, stop: asyncio.Event) -> None:
    """One message after the other, each until its caller knows, and the status in between."""
    number = 0
    async with httpx2.AsyncClient(base_url=gateway, trust_env=False, timeout=60) as client:
        while not stop.is_set():
            await _ask_status(client, session, calls)
            await _send(client, session, f"{session} {number:05d}", calls)
            number += 1
            await asyncio.sleep(_CALL_EVERY)


async def _ask_status(client: httpx2.AsyncClient, session: str, calls: Calls) -> None:
    answer = await client.get(f"/api/sessions/{session}/status")
    calls.statuses[answer.status_code] += 1
    worker = answer.headers.get("x-demo-worker", calls.owners[session])
    if answer.status_code not in (200, *_AGAIN) or worker != calls.owners[session]:
        calls.wrong.append(f"status of {session}: {answer.status_code} by {worker}: {answer.text[:200]}")
    elif answer.status_code == 200 and answer.json().get("session_id") != session:
        calls.wrong.append(f"status of {session}: {answer.text[:200]}")


async def _send(client: httpx2.AsyncClient, session: str, text: str, calls: Calls) -> None:
    body = {"session_id": session, "recipient_phone": "628123456789", "message": text, "api_key": "k"}
    deadline = time.monotonic() + _LONGEST
    while time.monotonic() < deadline:
        answer = await client.post("/api/messages/send", json=body, headers={"Idempotency-Key": text})
        calls.told[text] = answer.status_code
        if answer.status_code not in _AGAIN:
            break
        await asyncio.sleep(0.2)
    if calls.told[text] not in (200, 202):
        calls.wrong.append(f"{text}: {answer.status_code} {answer.text[:200]}")


def repeated(account: Account) -> list[str]:
    """Messages that went out under more than one id. The workers post each webhook once, so some are never heard of."""
    return [text for text, ids in account.sent.items() if len(ids) > 1]
