"""Processes killed at random under load, with a receiver that fails, hangs and throttles; and the account of it."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import orjson

from gateway.policies import load
from sluice.http.signatures import sign
from tests.e2e.deployment import SECRETS, WEBHOOKS, Deployment, deployment
from tests.relay.receiver import OK, Got
from tests.waiting import until

VICTIMS = ("relay", "gateway", "valkey-server")
SESSIONS = 12
_EVERY = 0.1  # seconds between the events of a session
_PAUSE = (1.0, 2.5)  # seconds between two kills
_HANG = 3.0  # seconds, longer than the endpoint's timeout
_FAILS, _HANGS, _THROTTLES = 0.02, 0.004, 0.002  # of the attempts

Sent = tuple[str, int]
"""A session, and the event's place in it."""


@dataclass(slots=True)
class Account:
    """What was promised, what was taken, and what happened meanwhile."""

    accepted: dict[Sent, str] = field(default_factory=dict)
    unknown: int = 0
    """Sent, but not answered 202: these may have been accepted or not."""
    taken: list[tuple[Sent, str]] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)
    kills: Counter[str] = field(default_factory=Counter)

    def lost(self) -> list[Sent]:
        return sorted(self.accepted.keys() - {sent for sent, _ in self.taken})

    def out_of_order(self) -> list[Sent]:
        """Events whose first arrival came after that of a later one of their session."""
        newest: dict[str, int] = defaultdict(lambda: -1)
        seen: set[Sent] = set()
        late: list[Sent] = []
        for sent, _ in self.taken:
            if sent in seen or sent not in self.accepted:
                continue
            seen.add(sent)
            late += [sent] if sent[1] < newest[sent[0]] else []
            newest[sent[0]] = max(newest[sent[0]], sent[1])
        return late

    def repeated(self) -> int:
        return len(self.taken) - len({sent for sent, _ in self.taken})

    def unexplained(self) -> list[Sent]:
        """Arrivals under another id than the first of the same event."""
        first: dict[Sent, str] = {}
        return [sent for sent, identity in self.taken if first.setdefault(sent, identity) != identity]

    def __str__(self) -> str:
        return (
            f"kills {dict(self.kills)}, accepted {len(self.accepted)}, not answered 202 {self.unknown}, "
            f"receiver {dict(self.answers)}, lost {len(self.lost())}, out of order {len(self.out_of_order())}, "
            f"repeated {self.repeated()}, of these under another id {len(self.unexplained())}"
        )


async def chaos(folder: Path, ports: tuple[int, int], *, kills: int, seed: int) -> Account:
    """Ends once everything accepted was delivered. Raises AssertionError if that takes too long."""
    chance, account, stop = random.Random(seed), Account(), asyncio.Event()
    async with bad_receiver(ports[1], random.Random(seed + 1), account) as calm, deployment(folder, ports) as deployed:
        text = deployed.file.read_text().replace("rate: 3000/minute, burst: 500", "rate: 60000/minute, burst: 10000")
        deployed.file.write_text(text)
        deployed.policies = load(deployed.file, environment=SECRETS)
        await deployed.start_up()
        async with asyncio.TaskGroup() as group:
            for number in range(SESSIONS):
                group.create_task(produce(deployed, f"session-{number}", account, stop))
            for _ in range(kills):
                await asyncio.sleep(chance.uniform(*_PAUSE))
                victim = chance.choice(VICTIMS)
                await deployed.kill_child(victim)
                account.kills[victim] += 1
            stop.set()
        calm.set()
        await until(deployed.drained, timeout=60, what=f"everything to be delivered: {account}")
    return account


async def produce(deployed: Deployment, session: str, account: Account, stop: asyncio.Event) -> None:
    sequence = 0
    async with httpx2.AsyncClient(base_url=deployed.gateway, trust_env=False, timeout=10) as client:
        while not stop.is_set():
            body = orjson.dumps({"event": "message_received", "data": {"session_id": session, "sequence": sequence}})
            signed = sign(deployed.policies.signatures["workers"], body, time.time())
            headers = [(b"content-type", b"application/json"), *signed]
            identity = None
            with contextlib.suppress(httpx2.HTTPError):
                answer = await client.post(WEBHOOKS.decode(), content=body, headers=headers)
                identity = answer.json()["id"] if answer.status_code == 202 else None
            if identity is None:
                account.unknown += 1
            else:
                account.accepted[session, sequence] = identity
            sequence += 1
            await asyncio.sleep(_EVERY)


@asynccontextmanager
async def bad_receiver(port: int, chance: random.Random, account: Account) -> AsyncIterator[asyncio.Event]:
    """Fails, hangs and throttles until the event it gives is set."""
    calm = asyncio.Event()

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError), contextlib.closing(writer):
            while True:
                got = await _read(reader)
                drawn = 1.0 if calm.is_set() else chance.random()
                if drawn < _HANGS:
                    account.answers["hung"] += 1
                    await asyncio.sleep(_HANG)
                    return
                status, extra = 200, b""
                if drawn < _HANGS + _THROTTLES:
                    status, extra = 429, b"Retry-After: 1\r\n"
                elif drawn < _HANGS + _THROTTLES + _FAILS:
                    status = 500
                account.answers[str(status)] += 1
                if status == OK[0]:
                    data = orjson.loads(got.body)["data"]
                    account.taken.append(((data["session_id"], data["sequence"]), got.all("webhook-id")[0].decode()))
                writer.write(b"HTTP/1.1 %d X\r\n%bContent-Length: 0\r\n\r\n" % (status, extra))
                await writer.drain()

    server = await asyncio.start_server(play, "127.0.0.1", port)
    try:
        yield calm
    finally:
        server.close()


async def _read(reader: asyncio.StreamReader) -> Got:
    line, *lines = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[:-2]
    headers = [(name, value) for name, _, value in (each.partition(b": ") for each in lines)]
    got = Got(line, headers, b"")
    got.body = await reader.readexactly(int(got.all("content-length")[0]))
    return got
